"""STO-02: no time tells how much of a digest was right.

Valgrind follows the bits of the operands through the compiled comparison, the object files are searched for
the comparisons of the C library, and the sources for comparisons of a digest by hand.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
CTGRIND = ROOT / "tests" / "c" / "ctgrind_digest.c"
VALGRIND_ERROR = 99     # exit status by which valgrind says that it reported something
# Version 4 of DWARF: valgrind before 3.20 gives up on what clang writes as version 5.
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-gdwarf-4", f"-I{CSRC}"]
EARLY_EXIT = ["memcmp", "bcmp", "strcmp", "strncmp"]    # functions that may stop at the first difference
COMPARED = re.compile(rf"\b(?:__builtin_)?(?:{'|'.join(EARLY_EXIT)})\s*\(")
BY_HAND = re.compile(
    r"digest(?:\[[^\]]*\])?\s*[!=]=(?!\s*NULL\b)"                       # a->digest[i] == …
    r"|[!=]=\s*[*&]?(?:\w+(?:\[[^\]]*\])?(?:->|\.))*\w*digest\b(?!\s*\()"   # … == a->digest[i]
)
ALLOWED: dict[str, str] = {}    # file of csrc/ -> why its memcmp never sees a digest


def compiler() -> list[str]:
    """The C compiler with its arguments: $CC, else cc; skips the test where there is none."""
    words = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(words[0]) is None:
        pytest.skip(f"no C compiler: {words[0]} is missing")
    return words


def compile_c(arguments: list[str]) -> None:
    """Run the C compiler; a failure is the test's, with the compiler's message."""
    done = subprocess.run([*compiler(), *FLAGS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def code_lines(text: str) -> list[str]:
    """The lines of a C source, with comments and literals blanked and the line numbers kept."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.S).split("\n")


def suspicious_lines(text: str, name: str) -> list[str]:
    """The places of a C source in which a digest is or may be compared other than by digest_equal()."""
    return [
        f"{name}:{number}: {line.strip()}"
        for number, line in enumerate(code_lines(text), start=1)
        if BY_HAND.search(line) or (COMPARED.search(line) and name not in ALLOWED)
    ]


def early_exits(object_file: Path) -> list[str]:
    """The functions of EARLY_EXIT that an object file refers to."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is missing")
    done = subprocess.run([nm, "-u", object_file], capture_output=True, text=True, check=True)
    symbols = {word.split("@")[0].lstrip("_") for word in done.stdout.split()}
    return sorted(symbols.intersection(EARLY_EXIT))


@pytest.fixture(scope="module", params=["-O1", "-O2", "-O3"])
def ctgrind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs tests/c/ctgrind_digest.c under valgrind, at one level of optimisation."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is missing (Debian: apt install valgrind)")
    header = "#include <valgrind/memcheck.h>\n"
    probe = [*compiler(), "-E", "-"]
    if subprocess.run(probe, input=header, capture_output=True, text=True, check=False).returncode != 0:
        pytest.skip("valgrind/memcheck.h is missing (Debian: apt install valgrind)")
    program = tmp_path_factory.mktemp("ctgrind") / "ctgrind_digest"
    compile_c([request.param, "-DCTGRIND", "-o", str(program), str(CTGRIND), str(CSRC / "digest.c")])
    return [valgrind, "--quiet", f"--error-exitcode={VALGRIND_ERROR}", str(program)]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mode", ["equal", "id", "form"])
def test_no_branch_or_address_depends_on_a_secret_sto_02(ctgrind: list[str], mode: str) -> None:
    """STO-02: comparing digests, hashing an id and checking its form, with all operands marked undefined."""
    done = run([*ctgrind, mode])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("1 passed, 0 failed\n")


def test_valgrind_reports_a_comparison_that_exits_early_sto_02(ctgrind: list[str]) -> None:
    """STO-02, the control: the same program with a comparison that stops at the first difference."""
    done = run([*ctgrind, "early-exit"])
    assert done.returncode == VALGRIND_ERROR
    assert "Conditional jump or move depends on uninitialised value" in done.stderr
    assert "early_exit_equal" in done.stderr or "compare" in done.stderr


def test_the_program_proves_nothing_without_valgrind_sto_02(ctgrind: list[str]) -> None:
    """Run plainly it must not pass."""
    assert run([ctgrind[-1], "equal"]).returncode == 77


@pytest.mark.parametrize("source", ["digest.c", "index.c", "shard.c"])
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_no_early_exit_comparison_is_linked_sto_02(source: str, level: str, tmp_path: Path) -> None:
    """STO-02: what handles digests refers to no memcmp, not even one that the compiler put in."""
    if not (CSRC / source).exists():
        pytest.skip(f"csrc/{source} does not exist")
    compile_c([level, "-c", "-o", str(tmp_path / "object.o"), str(CSRC / source)])
    assert early_exits(tmp_path / "object.o") == []


def test_a_linked_memcmp_is_found_sto_02(tmp_path: Path) -> None:
    """STO-02, the control: an object that does refer to memcmp."""
    source = tmp_path / "control.c"
    source.write_text(
        "#include <string.h>\n"
        "int control(const char *a, const char *b, size_t size) { return memcmp(a, b, size); }\n"
    )
    compile_c(["-O0", "-c", "-o", str(tmp_path / "control.o"), str(source)])
    assert early_exits(tmp_path / "control.o") == ["memcmp"]


def test_no_source_compares_a_digest_but_by_digest_equal_sto_02() -> None:
    """STO-02: no memcmp nor its kind anywhere in csrc/, and no == on a digest; no file is excepted."""
    assert ALLOWED == {}
    sources = sorted(CSRC.glob("*.[ch]"))
    assert CSRC / "digest.c" in sources
    found = [line for file in sources for line in suspicious_lines(file.read_text("utf-8"), file.name)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "if (memcmp(record->digest, digest, 32) == 0)",
        "return !__builtin_memcmp(a, b, size);",
        "if (strncmp (a, b, 32))",
        "same = same && record->digest[i] == other[i];",
        "if (a[i] != record->digest[i])",
        "if (*(uint64_t *)record->digest != prefix)",
        "return first == table->entry[3].parent_digest[0];",
    ],
)
def test_a_comparison_of_a_digest_is_found_sto_02(line: str) -> None:
    """STO-02, the control: lines that the search of the sources must report."""
    assert suspicious_lines(f"{{\n    {line}\n}}\n", "some.c") == [f"some.c:2: {line}"]


@pytest.mark.parametrize(
    "line",
    [
        "if (digest_equal(record->digest, digest))",
        "if (digest == NULL)",
        "if (digest_engine() == DIGEST_PORTABLE)",
        "/* no memcmp(digest, other) here */",
        'fail("memcmp(digest) == wrong");',
        "if (entry.hash == hash32)",
    ],
)
def test_other_lines_are_not_reported_sto_02(line: str) -> None:
    """The search would be of no use if it reported what is right."""
    assert suspicious_lines(line, "some.c") == []
