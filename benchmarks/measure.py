"""The figures that the project promises, measured side by side in one run, beside their targets.

python -m benchmarks.measure            all of it, some two minutes, into RESULTS.md
python -m benchmarks.measure --quick    small sizes: to see that it runs, not for figures
python -m benchmarks.measure NAME …     only these: lookup request create operations memory expiry junk revocation package
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

import sessile
from benchmarks import record
from benchmarks.workload import compare, fill, make_store, payload, resident_bytes, stored
from sessile import _table
from sessile.store import table_path
from sessile.testing import advance

Row = tuple[str, str, str]  # what, target, measured


def lookup(quick: bool) -> Iterator[Row]:
    """The C look-up called from Python, and store.load, against dict.get of the same ids."""
    targets = {200_000: ("<= 1.0", "<= 1.5"), 1_000_000: ("<= 0.8", "<= 1.2")}
    for count, (bare_target, load_target) in ({10_000: ("", "")} if quick else targets).items():
        name = f"benchmark-{os.getpid()}"
        store = make_store(count, path=name, secret="benchmark" * 4)
        ids = fill(store, count)
        peer = {id: bytes(158) for id in stored(ids)}
        bare = _bare_table(store)
        for what, operation, target in (
            ("look-up in C from Python", bare, bare_target),
            ("store.load", store.load, load_target),
        ):
            result = compare(operation, peer.get, ids, 3 if quick else 5)
            yield (
                f"{what}, {count:,} sessions",
                target and f"{target} x dict.get",
                str(result),
            )
        store.close()
        os.unlink(table_path(name))


def _bare_table(store: sessile.Store) -> Callable[[str], object]:
    """The binding's own look-up: digest, lock, deadline, renewal, copy; it makes no Session."""
    bare = _table.Table()
    facts = store._facts()
    bare._open(
        record_type=_table.Record,
        path=store._path,
        must_exist=True,
        capacity=facts[0],
        memory=facts[1],
        anonymous_share=1.0,
        keys=[keys.id for keys in store._keys],
        policy=(1_800_000, 28_800_000, 1_800_000, 28_800_000, 0, 65536),
        busy_timeout=1.0,
        reporting=False,
    )
    return bare.load


def request(quick: bool) -> Iterator[Row]:
    """A request: load, read a field; every tenth also writes one and saves."""
    count = 10_000 if quick else 200_000
    store = make_store(count)
    ids = fill(store, count)
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    peer = {id: encode(payload(number)) for number, id in enumerate(stored(ids))}
    turn = 0

    def ours(id: str) -> None:
        nonlocal turn
        session = store.load(id)
        assert session is not None
        session["locale"]
        turn += 1
        if turn % 10 == 0:
            session["flash"] = f"message {turn % 1000:03}"
            session.save()

    def theirs(id: str) -> None:
        nonlocal turn
        fields = decode(peer[id])
        fields["locale"]
        turn += 1
        if turn % 10 == 0:
            fields["flash"] = f"message {turn % 1000:03}"
            peer[id] = encode(fields)

    result = compare(ours, theirs, ids, 3 if quick else 5)
    yield (
        f"request, {count:,} sessions",
        "<= 0.6 x dict + msgspec",
        str(result),
    )
    store.close()


def create(quick: bool) -> Iterator[Row]:
    """store.create with six fields, made beforehand."""
    count = 5_000 if quick else 100_000
    times = []
    for _ in range(3 if quick else 5):
        store = make_store(count)
        data = [payload(number) for number in range(count)]
        gc.collect()
        gc.disable()
        start = time.perf_counter_ns()
        for fields in data:
            store.create(fields)
        times.append((time.perf_counter_ns() - start) / count / 1000)
        gc.enable()
        store.close()
    yield (
        "store.create, six fields",
        "<= 2.5 us",
        f"{statistics.median(times):.2f} us (best {min(times):.2f})",
    )


def operations(quick: bool) -> Iterator[Row]:
    """destroy, login, rotate; 200,000 other sessions in the store."""
    count = 2_000 if quick else 20_000
    store = make_store(10 * count, anonymous_share=0.9)
    fill(store, 8 * count)
    for name in ("login", "rotate", "destroy"):
        sessions = [store.create({"theme": "dark"}) for _ in range(count)]
        operation = {
            "login": lambda pair: pair[1].login(f"user-{pair[0]}"),
            "rotate": lambda pair: pair[1].rotate(),
            "destroy": lambda pair: pair[1].destroy(),
        }[name]
        if name != "login":
            for number, session in enumerate(sessions):
                session.login(f"{name}-{number}")
        gc.collect()
        gc.disable()
        start = time.perf_counter_ns()
        for pair in enumerate(sessions):
            operation(pair)
        spent = (time.perf_counter_ns() - start) / count / 1000
        gc.enable()
        yield f"{name} among {8 * count:,} sessions", "<= 3 us", f"{spent:.2f} us"
    store.close()


def _in_child(target: Callable[..., None], *arguments: object) -> dict[str, float]:
    """Runs target(connection, *arguments) in a process of its own, so that nothing else is in its memory."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=target, args=(sender, *arguments))
    child.start()
    result: dict[str, float] = receiver.recv()
    child.join()
    return result


def _measure_memory(connection: object, count: int, owned: bool) -> None:
    import warnings

    warnings.simplefilter("ignore")
    gc.collect()
    before = resident_bytes()
    store = make_store(count, max_sessions_per_owner=None)
    for number in range(count):
        store.create(payload(number), owner=f"user-{number}" if owned else None)
    gc.collect()
    bytes_each = (resident_bytes() - before) / count
    connection.send({"bytes": bytes_each, "used": store.stats().memory_used / count})  # type: ignore[attr-defined]


def memory(quick: bool) -> Iterator[Row]:
    """Bytes a session, all counted: resident set of a process before and after."""
    count = 20_000 if quick else 200_000
    for name, owned, target in (
        ("anonymous", False, "<= 320 bytes"),
        ("owned, one each owner", True, "<= 430 bytes"),
    ):
        result = _in_child(_measure_memory, count, owned)
        yield (
            f"resident, {count:,} {name}",
            target,
            f"{result['bytes']:.0f} bytes (slots {result['used']:.0f})",
        )


def expiry(quick: bool) -> Iterator[Row]:
    """All sessions expire in one tick, then calls until they are gone: the longest call."""
    count = 20_000 if quick else 1_000_000
    store = make_store(count, spare=2)
    ids = fill(store, count)
    advance(store, 1801)
    choose = random.Random(1)
    longest: dict[str, float] = {}
    gc.collect()
    gc.disable()
    while store.stats().sessions > count // 1000:
        for name, operation in (
            ("load", lambda: store.load(choose.choice(ids))),
            ("create", lambda: store.create({"a": 1})),
            ("sweep", store.sweep),
        ):
            start = time.perf_counter_ns()
            operation()
            longest[name] = max(longest.get(name, 0), (time.perf_counter_ns() - start) / 1e6)
        if store.stats().expired >= count:
            break
    gc.enable()
    store.close()
    text = ", ".join(f"{name} {spent:.2f}" for name, spent in longest.items())
    yield (
        f"{count:,} sessions expire in one tick: longest call",
        "<= 1 ms",
        f"{max(longest.values()):.2f} ms ({text})",
    )


def junk(quick: bool) -> Iterator[Row]:
    """Ids that nobody was given, and text that is no id."""
    count = 10_000 if quick else 200_000
    looks = 100_000 if quick else 10_000_000
    store = make_store(count)
    ids = fill(store, count)
    unknown = [os.urandom(24).hex()[:32] for _ in range(10_000)]
    malformed = ["x" * length for length in (0, 1, 31, 33, 500)] * 2000
    for pool in (unknown, malformed):
        for id in pool:
            store.load(id)
    before = resident_bytes()
    for _ in range(looks // 20_000):
        for id in unknown:
            store.load(id)
        for id in malformed:
            store.load(id)
    grown = resident_bytes() - before
    known = compare(store.load, store.load, ids[:10_000], 5)
    spent = compare(store.load, store.load, unknown, 5)
    yield f"resident set over {looks:,} unknown and malformed ids", "flat", f"{grown / 1024:+.0f} KiB"
    yield (
        "an unknown id beside a known one",
        "at most one hash",
        f"{spent.ours / known.ours:.2f} x ({spent.ours:.0f} ns)",
    )
    store.close()


def revocation(quick: bool) -> Iterator[Row]:
    """All sessions of one owner end, among many others."""
    others, own = (10_000, 100) if quick else (1_000_000, 1_000)
    store = make_store(others + 5 * own, spare=2, anonymous_share=0.6, max_sessions_per_owner=None)
    for _ in range(others):
        store.create({"theme": "dark"})
    times = []
    for name in ("ann", "bob", "eve", "joe", "kim"):
        for _ in range(own):
            store.create({"theme": "dark"}, owner=name)
        start = time.perf_counter_ns()
        ended = store.revoke(name)
        times.append((time.perf_counter_ns() - start) / 1e6)
        assert ended == own
    store.close()
    yield (
        f"revoke {own:,} sessions of one owner among {others:,}",
        "<= 1 ms",
        f"{statistics.median(times):.2f} ms (best of five {min(times):.2f})",
    )


def package(quick: bool) -> Iterator[Row]:
    """What importing and installing it costs."""
    program = "import time; t = time.perf_counter(); import sessile; print(time.perf_counter() - t)"
    # What a process that has a fast decoder already still has to load: the standard library's part is in both.
    programs = {"import sessile": program, "import sessile, where msgspec is imported": "import msgspec; " + program}
    times: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as compiled:  # as an installed package has it, whatever this process is told
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(4 if quick else 16):
            for name, program in programs.items():
                command = [sys.executable, "-c", program]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                times[name].append(float(done.stdout) * 1000)
    for name, target in zip(programs, ("", "<= 25 ms"), strict=True):
        measured = times[name][1:]  # the first compiled it
        yield name, target, f"{statistics.median(measured):.1f} ms (best {min(measured):.1f})"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    files = [path for path in Path(sessile.__file__).parent.rglob("*") if path.is_file()]
    installed = [path for path in files if path.suffix in (".py", ".pyi", ".typed") or path.name.endswith(suffix)]
    size = sum(path.stat().st_size for path in installed)
    yield "installed size, without compiled Python", "<= 1 MiB", f"{size / 2**20:.2f} MiB in {len(installed)} files"


PARTS = {
    part.__name__: part
    for part in (lookup, request, create, operations, memory, expiry, junk, revocation, package)
}


def main() -> int:
    """Measure; the whole goes into RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.names:  # a part is for looking at, not for the record
        for name in arguments.names:
            for what, target, measured in PARTS[name](arguments.quick):
                print(f"{what}: {measured}   (target {target})", flush=True)
        return 0
    command = "python -m benchmarks.measure"
    with record.section("operations", "Operations", command, quick=arguments.quick) as section:
        for part in PARTS.values():
            for row in part(arguments.quick):
                section.row(*row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
