"""The measuring instruments: the gate on instruction counts, and the sections of RESULTS.md."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import instructions, record

BASELINE: instructions.Counts = {"load": {"digest": 3000.0, "table": 1000.0, "interpreter": 2000.0}}


@pytest.mark.parametrize(
    ("digest", "table", "interpreter", "wrong"),
    [
        (3000, 1000, 2000, 0),
        (3000, 1029, 2000, 0),
        (3000, 1031, 2000, 1),  # 3.1 % of a part, though 0.5 % of all
        (3000, 969, 2000, 1),  # faster: a baseline that is too high guards nothing
        (3000, 1000, 2240, 0),  # the interpreter's part may move
        (3000, 1000, 2260, 1),  # not so far
        (3091, 1031, 2000, 2),
    ],
)
def test_the_gate_fails_beyond_three_percent(digest: float, table: float, interpreter: float, wrong: int) -> None:
    counts = {"load": {"digest": digest, "table": table, "interpreter": interpreter}}
    assert len(instructions.compare(counts, BASELINE)) == wrong


def test_the_gate_fails_for_what_is_missing_or_new() -> None:
    assert instructions.compare({}, BASELINE) == ["load: in the baseline, and not counted"]
    assert instructions.compare({**BASELINE, "save": {"table": 1.0}}, BASELINE) == ["save: not in the baseline"]


def test_the_gate_has_a_verdict_without_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "ratios", list)
    assert instructions.gate(BASELINE, None, "another compiler") == instructions.NOTHING_TO_COMPARE
    assert instructions.gate(BASELINE, BASELINE, "this one") == 0
    monkeypatch.setattr(instructions, "ratios", lambda: [("load", 7.0, 6.0)])
    assert instructions.gate(BASELINE, BASELINE, "this one") == 1


def test_costs_go_to_the_file_that_they_were_compiled_from() -> None:
    """One file of callgrind's: inlined lines, calls whose cost is counted elsewhere, numbers named once."""
    text = """desc: Trigger: Client Request: load
fl=(1) /src/csrc/shard.c
fn=(1) shard_load
10 5
fi=(2) /src/csrc/digest.c
+3 40
fe=(1)
cfi=(3) /src/build/cython/_table.c
cfn=(2) somebody
calls=1 20
* 900
-2 7
fl=(3)
fn=(2)
20 100
21
fl=(4) ./Objects/dictobject.c
fn=(3) lookup
1 30
"""
    expected = Counter({"table": 12, "digest": 40, "binding": 100, "interpreter": 30})
    assert instructions._parse(text, {}) == ("load", expected)


def test_the_committed_baseline_has_every_operation() -> None:
    for counts in json.loads(instructions.BASELINE.read_text()).values():
        assert {"C: load", "C: create", "Python: store.load", "Python: request"} <= counts.keys()


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    record.write(path, "web", "## Web\n\n1\n")
    record.write(path, "peers", "## Peers\n")
    record.write(path, "another", "## Another\n")
    record.write(path, "web", "## Web\n\n2\n")
    assert list(record.read(path)) == ["peers", "web", "another"]
    assert record.read(path)["web"] == "## Web\n\n2\n"
    assert path.read_text().startswith("# Results\n")


def test_nothing_is_recorded_when_a_program_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DIRECTORY", str(tmp_path))
    with record.section("web", "Web", "command") as section:
        section.row("a request", "<= 4 us", "3 us")
    with pytest.raises(ZeroDivisionError), record.section("web", "Web", "command") as section:
        section.row("a request", "<= 4 us", f"{1 / 0} us")
    assert "| a request | <= 4 us |" in record.read(tmp_path / "RESULTS.md")["web"]
