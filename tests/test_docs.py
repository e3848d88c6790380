"""The documentation: its examples run, its links lead somewhere, its tables say what the sources say.

`python tests/test_docs.py` writes the column of tests in docs/security.md anew.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import dataclasses
import inspect
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args
from wsgiref.util import setup_testing_defaults

import pytest

import sessile
from sessile.cli import arguments
from sessile.events import EventKind, EventReason
from sessile.web import Cookie, asgi, wsgi

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SECURITY = ROOT / "docs" / "security.md"
OPERATIONS = ROOT / "docs" / "operations.md"
PYTHON = ROOT / "docs" / "python.md"
TABLE = ROOT / "docs" / "table.md"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
FRAMEWORKS = {ROOT / "docs" / "django.md": "tests/web/django/test_page.py"}  # what runs their examples
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
NAMED_AFTER_PACKAGE = {ROOT / "docs" / "flask.md", ROOT / "docs" / "quart.md"}  # which their examples need
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# ---- blocks ----


class Block(NamedTuple):
    """A fenced block: `line` is that of its first line of code; `marked`, why it is not run."""

    language: str
    line: int
    code: str
    marked: str | None


_is_fence = re.compile(r"```(\S*)\s*").fullmatch
_is_mark = re.compile(r"<!-- not run: (.*\S) -->").fullmatch


def blocks(text: str) -> Iterator[Block]:
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        fence = _is_fence(lines[at])
        at += 1
        if not fence:
            continue
        begin = at
        while lines[at] != "```":
            at += 1
        before = [line for line in lines[: begin - 1] if line.strip()]
        mark = _is_mark(before[-1]) if before else None
        yield Block(fence[1], begin + 1, "\n".join(lines[begin:at]) + "\n", mark and mark[1])
        at += 1


_has_result = re.compile(r"# → (.*\S)\s*$").search
_has_refusal = re.compile(r"# raises ([A-Za-z.]+)\s*$").search


def run(block: Block, page: str, names: dict[str, Any]) -> None:
    """Run a block statement by statement. A comment `# → X` says what the expression before it gives, and
    `# raises E` that the statement raises E."""
    lines = block.code.split("\n")
    for node in ast.parse(block.code, page).body:
        ast.increment_lineno(node, block.line - 1)
        assert node.end_lineno is not None
        last = lines[node.end_lineno - block.line]
        refusal, result = _has_refusal(last), _has_result(last)
        if refusal:
            with pytest.raises(eval(refusal[1], names)):
                exec(compile(ast.Module([node], []), page, "exec"), names)
        elif result:
            assert isinstance(node, ast.Expr), f"{page}:{node.lineno}: a result, but no expression"
            value = eval(compile(ast.Expression(node.value), page, "eval"), names)
            assert repr(value) == result[1], f"{page}:{node.lineno} gives {value!r}"
        else:
            exec(compile(ast.Module([node], []), page, "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FRAMEWORKS], ids=name_of)
def test_every_example_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page from top to bottom in one namespace; a store with a name lies in a directory of its own."""
    if page in NAMED_AFTER_PACKAGE:
        pytest.importorskip(page.stem, reason=f"{page.stem} is not installed")
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for block in blocks(read(page)):
            if block.language == "python" and not block.marked:
                run(block, name_of(page), names)
    finally:
        for value in names.values():
            if isinstance(value, sessile.Store):
                value.close()


def test_the_applications_of_the_readme_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is called once, over https: it counts a visit, and gives a cookie."""
    monkeypatch.setattr("sessile.store._own_directory", lambda: str(tmp_path))
    names: dict[str, Any] = {}
    applications = []
    for block in blocks(read(README)):
        if block.language == "python" and not block.marked:
            run(block, name_of(README), names)
            if "application" in names:
                applications.append(names.pop("application"))
    of_wsgi, of_asgi = applications
    assert ask_wsgi(of_wsgi) == ask_asgi(of_asgi) == (b"visit 1\n", True)
    names["store"].close()


def ask_wsgi(application: Any) -> tuple[bytes, bool]:
    environ: dict[str, Any] = {"HTTPS": "on"}
    setup_testing_defaults(environ)
    sent: list[tuple[str, str]] = []
    body = b"".join(application(environ, lambda status, headers: sent.extend(headers)))
    return body, "set-cookie" in {name.lower() for name, _ in sent}


def ask_asgi(application: Any) -> tuple[bytes, bool]:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "https",
        "headers": [(b"host", b"shop.example")],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    begin, *rest = sent
    return b"".join(part["body"] for part in rest), b"set-cookie" in {
        name.lower() for name, _ in begin["headers"]
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    """So that no example escapes by a missing word."""
    for block in blocks(read(page)):
        assert block.language in {"python", "sh", "text", "ini", "yaml"}, f"{name_of(page)}:{block.line - 1}"


def test_a_result_that_is_wrong_is_noticed() -> None:
    """The check itself: a wrong result, a missing exception, an exception."""
    for code, error in (
        ("1 + 1  # → 3", AssertionError),
        ("1 + 1  # raises ValueError", BaseException),
        ("x = 1  # → 1", AssertionError),
        ("1 / 0", ZeroDivisionError),
    ):
        with pytest.raises(error):
            run(Block("python", 1, code, None), "page", {})
        with pytest.raises(error):
            run(Block("python", 7, f"y = 1\n{code}", None), "page", {})


# ---- links, commands ----


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    kept = (c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    return {slug(found[1]) for found in re.finditer(r"^#+ +(.*)$", without_blocks(read(page)), re.MULTILINE)}


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(read(page))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        led_to = (page.parent / path).resolve() if path else page
        assert led_to.exists(), f"{name_of(page)} links to {target}"
        assert led_to.is_relative_to(ROOT), f"{name_of(page)} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(led_to), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", read(ROOT / "Makefile"), re.MULTILINE))
    text = read(page)
    commands = re.findall(r"`([^`\n]+)`", text) + [
        block.code for block in blocks(text) if block.language == "sh"
    ]
    for command in commands:
        for named in re.findall(r"^\s*make ([a-z][a-z-]*)", command, re.MULTILINE):
            assert named in targets, f"{name_of(page)}: make {named}"


def test_every_command_line_is_understood() -> None:
    lines = [line for page in PAGES for block in blocks(read(page)) for line in block.code.split("\n")]
    commands = [line for line in lines if line.startswith("python -m sessile")]
    assert commands
    for command in commands:
        assert arguments.parse(shlex.split(command, comments=True)[3:]).table == "shop", command


# ---- tables ----


def rows(text: str, *heading: str) -> list[list[str]]:
    """The cells of the one table with this heading."""
    lines = text.split("\n")
    begins = [at for at, line in enumerate(lines) if cells(line) == list(heading)]
    assert len(begins) == 1, f"{len(begins)} tables with the heading {heading}"
    found = []
    for line in lines[begins[0] + 2 :]:
        if not line.startswith("|"):
            break
        found.append(cells(line))
    assert found
    assert all(len(row) == len(heading) for row in found)
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


# ---- security.md ----

# How many requirements there are of each kind.
REQUIREMENTS = {
    "SID": 10,
    "STO": 11,
    "COK": 16,
    "LIF": 17,
    "CON": 7,
    "DET": 6,
    "PER": 12,
    "MPR": 9,
    "DOS": 11,
}
PROVED = {"proved", "in part"}
UNPROVED = {"not yet", "not planned"}
BY_CI = "by CI"
_number = re.compile(rf"\b(?:{'|'.join(REQUIREMENTS)})-[0-9]{{2}}\b")


def files_by_requirement() -> dict[str, list[str]]:
    """The test files that name a requirement, by its number."""
    found: dict[str, list[str]] = defaultdict(list)
    tests = ROOT / "tests"
    for path in sorted(tests.rglob("*")):
        if path.suffix == ".c" or (path.suffix == ".py" and path.name.startswith("test_")):
            for number in sorted(set(_number.findall(path.read_text(encoding="utf-8")))):
                found[number].append(path.relative_to(tests).as_posix())
    return found


def listed(files: list[str]) -> str:
    return ", ".join(f"`{file}`" for file in files)


HEADING = ("id", "what sessile does", "status", "tests")


def with_tests(text: str) -> str:
    """The page with the column of tests as the tests have it."""
    found = files_by_requirement()
    lines = []
    for line in text.split("\n"):
        row = cells(line)
        if len(row) == len(HEADING) and _number.fullmatch(row[0]) and row[2] != BY_CI:
            row[3] = listed(found.get(row[0], []))
            line = f"| {' | '.join(row)} |".replace("|  |", "| |")
        lines.append(line)
    return "\n".join(lines)


def test_every_requirement_has_its_row() -> None:
    expected = [f"{kind}-{n:02}" for kind, count in REQUIREMENTS.items() for n in range(1, count + 1)]
    assert [row[0] for row in rows(read(SECURITY), *HEADING)] == expected


def test_every_requirement_names_its_tests() -> None:
    """What is said to be proved has a test that names it; what has such a test is not said to be missing."""
    found = files_by_requirement()
    again = "run `python tests/test_docs.py` and judge the status anew"
    for number, _, status, named in rows(read(SECURITY), *HEADING):
        files = found.pop(number, [])
        if status == BY_CI:
            assert not files, f"{number} has tests by now: {listed(files)}"
            check_by_ci(number, named)
            continue
        assert status in PROVED | UNPROVED, f"{number}: {status!r}"
        assert named == listed(files), f"{number} is named by {listed(files) or 'no test'}: {again}"
        assert (status in PROVED) == bool(files), (
            f"{number} is {status!r}, named by {listed(files) or 'no test'}"
        )
    assert not found, f"tests name requirements that {name_of(SECURITY)} does not have: {dict(found)}"


def check_by_ci(number: str, named: str) -> None:
    targets = re.findall(r"`(make [a-z-]+)`", named)
    assert targets, f"{number}: by CI, but by no make target"
    for target in targets:
        assert target in read(ROOT / ".ci" / "run"), f"{number}: CI does not call {target}"


def defaults_of(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


# Options of a store that are neither a timeout nor a limit.
WITHOUT_LIMIT = {
    "path",
    "secret",
    "on_event",
    "snapshot_dir",
    "snapshot_interval",
    "durability",
    "encrypt",
}


def test_timeouts_and_caps_are_documented_with_their_reasons() -> None:
    """LIF-17: each option that limits something stands there, with its true default and why."""
    defaults = defaults_of(sessile.Store.__init__)
    table = rows(read(SECURITY), "option of `Store`", "default", "why")
    documented = {option.strip("`"): (default, why) for option, default, why in table}
    assert documented.keys() == defaults.keys() - WITHOUT_LIMIT
    for option, (default, why) in documented.items():
        assert ast.literal_eval(default.strip("`")) == defaults[option], option
        assert len(why.split()) >= 4, f"{option}: no reason"


def test_the_options_of_the_middleware_are_documented() -> None:
    """Of both adapters, with their true defaults."""
    table = rows(read(PYTHON), "option of the middleware", "default", "what for")
    documented = {
        option.strip("`"): eval(default.strip("`"), {"Cookie": Cookie}) for option, default, _ in table
    }
    assert documented == defaults_of(asgi.SessionMiddleware.__init__)
    of_wsgi = defaults_of(wsgi.SessionMiddleware.__init__)
    assert of_wsgi.pop("environ_key", documented) is not documented
    assert documented == of_wsgi


# ---- python.md, operations.md ----


def test_every_error_is_documented() -> None:
    """With the builtin that it is too, and the facts that it carries."""
    documented = set()
    for name, builtin, _, attributes in rows(read(PYTHON), "error", "also", "when", "attributes"):
        error = getattr(sessile, name.strip("`"))
        assert issubclass(error, getattr(builtins, builtin.strip("`"))), name
        options = inspect.signature(error.__init__).parameters.keys() - {"self", "message"}
        assert {each.strip("`") for each in attributes.split(", ") if each} == options, name
        documented.add(error)
    exported = {getattr(sessile, name) for name in sessile.__all__}
    errors = {each for each in exported if inspect.isclass(each) and issubclass(each, sessile.SessileError)}
    assert documented == errors - {sessile.SessileError}


def test_every_kind_of_event_is_documented() -> None:
    section = read(PYTHON).split("\n## Events\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert named >= {*get_args(EventKind), *get_args(EventReason)}


def test_every_figure_is_documented() -> None:
    named: set[str] = set()
    for figures, _ in rows(read(OPERATIONS), "figure", "watch"):
        named.update(figure.strip("`") for figure in figures.split(", "))
    assert named == {field.name for field in dataclasses.fields(sessile.Stats)}


# ---- table.md ----


def constant(source: str, name: str) -> int:
    """The value of a #define that is a number or a number shifted left."""
    found = re.search(rf"^#define {name}[ \t]+(.+?)[ \t]*(?:/\*.*)?$", source, re.MULTILINE)
    assert found, f"there is no {name}"
    parts = re.sub(r"(?<=[0-9])[uUlL]+", "", found[1]).strip("()").split("<<")
    return int(parts[0]) << int(parts[1] if len(parts) == 2 else 0)


UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def test_the_numbers_of_the_table_are_those_of_the_code() -> None:
    for name, value, file in rows(read(TABLE), "number", "value", "in"):
        number, _, unit = value.partition(" ")
        expected = int(number) * UNITS[unit]
        assert constant(read(ROOT / "csrc" / file), name.strip("`")) == expected, f"{name} in {file}"


def test_every_invariant_is_where_the_page_says() -> None:
    documented = {(number, file) for number, file, _ in rows(read(TABLE), "number", "file", "in short")}
    sources = sorted((ROOT / "csrc").glob("*.[ch]"))
    stated = {
        (number, path.name)
        for path in sources
        for number in re.findall(r"^ \* ([A-Z][0-9])  ", read(path), re.MULTILINE)
    }
    assert documented == stated


def test_every_file_of_the_table_is_listed() -> None:
    named = set()
    for first, _, _ in rows(read(TABLE), "file", "what it does", "stands on"):
        named.update(name.strip("`").partition(".")[0] for name in first.split(", "))
    public = "sessile"
    assert named | {public} == {path.stem for path in (ROOT / "csrc").glob("*.[ch]")}


# ---- README ----

FIGURES = re.compile(r"<!-- figures: .*? -->\n(.*?)<!-- end of figures -->", re.DOTALL)
_SPEEDS = "ns|µs|us|ms|(?:nano|micro|milli)seconds?|requests a second|times as (?:fast|slow)|% faster"
_measured = re.compile(rf"[0-9][0-9.,]*\s*(?:{_SPEEDS})\b")
_figure = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


def test_no_figure_but_a_measured_one() -> None:
    """Speeds stand between the two marks only; each number there stands in the results of the benchmarks."""
    text = read(README)
    assert len(FIGURES.findall(text)) == 1
    figures = FIGURES.search(text)
    assert figures
    outside = without_blocks(FIGURES.sub("", text))
    assert not _measured.findall(outside), "a figure outside the marks"
    measured = set(_figure.findall(read(RESULTS))) if RESULTS.exists() else set()
    for row in rows(figures[1], "what", "figure", "command"):
        unknown = set(_figure.findall(row[1])) - measured
        assert not unknown, f"{row[0]}: {unknown} not in {name_of(RESULTS)}"


def test_the_bytes_of_a_session_are_those_of_the_table() -> None:
    """The sizes in the README are what the table counts for such a session."""
    table = rows(read(README), "bytes of fields", "anonymous", "after a log-in")
    with sessile.Store(capacity=1000, memory="64 MiB", secret="the bytes of a session" * 2) as store:
        for fields, anonymous, owned in table:
            size = int(fields.replace(",", ""))
            before = store.stats().memory_used
            session = store.create(fields_of(size))
            assert store.stats().memory_used - before == int(anonymous.replace(",", ""))
            session.login("alice", keep=True)
            assert store.stats().memory_used - before == int(owned.replace(",", ""))
            assert len(sessile.codec.encode_fields(dict(session))) == size
            store.revoke("alice")


def fields_of(size: int) -> dict[str, Any]:
    """One field whose encoding has this size: name 2 bytes, head of the value 2, 3 or 5."""
    for head in (2, 3, 5):
        fields = {"x": b"x" * (size - 2 - head)}
        if len(sessile.codec.encode_fields(fields)) == size:
            return fields
    raise AssertionError(f"no field of {size} bytes")


def test_the_readme_promises_snapshots_when_there_are_any(tmp_path: Path) -> None:
    """What it says of a reboot is true of this very version."""
    refused = None
    try:
        sessile.Store(capacity=1000, memory="4 MiB", snapshot_dir=tmp_path).close()
    except ValueError as error:
        refused = str(error)
    assert refused is None or "not available in this version" in refused
    assert ("Snapshots on disk are not in this version" in read(README)) == (refused is not None)


def test_the_readme_is_short() -> None:
    assert len(read(README).split("\n")) <= 200


if __name__ == "__main__":
    SECURITY.write_text(with_tests(read(SECURITY)), encoding="utf-8")
