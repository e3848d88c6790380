"""Coverage-guided fuzzing of the web layer, with Atheris (libFuzzer).

python tests/web/fuzz.py [--seconds 60] [--target cookie|wsgi|asgi|origin] [--seed N] [--folder build/fuzz]

    cookie    any octets as a Cookie header, against the slow parser of test_cookies_properties.py
    wsgi      whole requests, as Hypothesis builds them from the octets: test_manager_properties.py says
    asgi      what must hold (no exception leaves, at most one cookie goes out, no id is adopted)
    origin    any octets as Origin, Host and Sec-Fetch-Site, and as a token

Without --target each of them gets its share of the time. What was found to be interesting is kept in the folder,
and used by the next run. An input that takes longer than ten seconds is a finding too, though headers have up to
1 MiB. Exit status 0: nothing was found; else the input that did it lies in the folder: pass it as an argument.

`make fuzz` runs it in an environment that has Atheris: Python 3.11 or 3.12 on x86-64.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import atheris

with atheris.instrument_imports(include=["sessile.web", "sessile.session", "sessile.store"]):
    import sessile
    import sessile.web.asgi
    import sessile.web.wsgi
    from sessile.web import Cookie, csrf

from hypothesis import HealthCheck, given, settings

HERE = Path(__file__).parent
ORDER = ("cookie", "wsgi", "asgi", "origin")
SLOW = 10  # seconds for one input
LONGEST = 1 << 16  # octets of one input


def load(name: str) -> ModuleType:
    """A test module beside this file, by its path."""
    spec = spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cookie_target() -> Callable[[bytes], None]:
    reference = load("test_cookies_properties").reference
    cookie = Cookie()
    name = cookie.name.encode()

    def run(data: bytes) -> None:
        header = data[1:] * (data[0] or 1) if data else b""  # so that it can be long
        expected = reference(name, header)
        assert cookie.find(header) == expected
        assert cookie.find(header.decode("latin-1")) == expected

    return run


def request_target(protocol: str) -> Callable[[bytes], None]:
    properties = load("test_manager_properties")
    over = getattr(properties, f"over_{protocol}")
    store = sessile.Store(capacity=1000, memory="4 MiB")

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(**properties.everything)
    def run(**request: object) -> None:
        over(store, **request)

    one: Callable[[bytes], None] = run.hypothesis.fuzz_one_input
    return one


def origin_target() -> Callable[[bytes], None]:
    trusted = csrf.parse_trusted_origins(["https://app.example"])
    store = sessile.Store(capacity=1000, memory="4 MiB")
    session = store.create({"a": 1})

    def run(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        texts = [
            provider.ConsumeBytes(provider.ConsumeIntInRange(0, 64)).decode("latin-1") * provider.ConsumeIntInRange(0, 300)
            for _ in range(3)
        ]
        for origin in texts:
            parsed = csrf.parse_origin(origin)
            assert parsed is None or csrf.parse_origin(str(origin)) == parsed
            for scheme in ("https", "http", ""):
                passes = csrf.cross_site_allowed("POST", texts[0] or None, origin, texts[1], scheme, trusted)
                assert not (passes and origin == "null" and texts[0] not in ("same-origin", "none"))
            assert not csrf.check(session, origin)

    return run


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "cookie": cookie_target,
    "wsgi": lambda: request_target("wsgi"),
    "asgi": lambda: request_target("asgi"),
    "origin": origin_target,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    parser.add_argument("--target", choices=ORDER)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("input", nargs="?", help="a file with one input: only this is run; needs --target")
    return parser.parse_args()


def each(arguments: argparse.Namespace) -> int:
    """Every target in a process of its own: libFuzzer ends the one that it runs in."""
    status = 0
    share = max(1, arguments.seconds // len(ORDER))
    for target in ORDER:
        print(f"== {target}, {share} s, --seed {arguments.seed}", flush=True)
        command = [sys.executable, __file__, "--target", target, "--seconds", str(share)]
        command += ["--seed", str(arguments.seed), "--folder", str(arguments.folder)]
        status |= subprocess.run(command, check=False).returncode
    return 1 if status else 0


def main() -> int:
    arguments = parse()
    if arguments.target is None:
        return each(arguments)
    corpus = arguments.folder / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "seed").write_bytes(b"\1a=1; __Host-Http-id=" + b"V" * 32 + b"; b=2")
    for number in range(8):  # Hypothesis makes nothing of fewer octets than a whole request needs
        (corpus / f"seed-{number}").write_bytes(random.Random(arguments.seed + number).randbytes(500))
    logging.getLogger("sessile").setLevel(logging.CRITICAL)
    options = [f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}", f"-timeout={SLOW}"]
    options += [f"-max_len={LONGEST}", f"-artifact_prefix={corpus}-", "-print_final_stats=1", "-verbosity=0"]
    where = str(corpus) if arguments.input is None else os.fspath(arguments.input)
    atheris.Setup([sys.argv[0], *options, where], TARGETS[arguments.target]())
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
