"""Makes the golden files: run once for each version of the format, from the root of the repository.

    python tests/persistence/golden.py tests/persistence/golden/v1

A later version of sessile must read them for ever; they are never made anew.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from crashing import Stores


def make(where: Path, encrypt: bool) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        stores = Stores(Path(temporary) / "snapshots")
        store = stores.open(encrypt=encrypt)
        kept = store.create({"cart": ["book", "pen"], "n": 2**70}, owner="eva", device={"browser": "Firefox"})
        anonymous = store.create({"theme": "dark"})
        ended, rotated, renewed = (store.create({"n": n}, owner="bob") for n in range(3))
        gone = [ended.id, rotated.id]
        store.snapshot()
        ended.destroy()
        rotated.rotate()
        again = store.load(renewed.id)
        assert again is not None
        again._renew()
        visitor = store.open()
        visitor["cart"] = ["cup"]
        visitor.login("zoe", keep=True)
        facts = {
            "wall_ns": time.time_ns(),
            "gone": gone,
            "there": [
                [kept.id, "eva", {"cart": ["book", "pen"], "n": 2**70}],
                [anonymous.id, None, {"theme": "dark"}],
                [rotated.id, "bob", {"n": 1}],
                [renewed.id, "bob", {"n": 2}],
                [again.id, "bob", {"n": 2}],
                [visitor.id, "zoe", {"cart": ["cup"]}],
            ],
        }
        stores.crash(store)
        where.mkdir(parents=True)
        for path in stores.directory.iterdir():
            if path.name != "LOCK":
                shutil.copy(path, where)
        (where / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) / "plain", False)
    make(Path(sys.argv[1]) / "sealed", True)
