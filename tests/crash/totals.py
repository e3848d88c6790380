"""Sums up what the parts of `make crash` printed: tests/crash/Makefile keeps it in one file each.

    python3 tests/crash/totals.py DIRECTORY
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path


def last_line(path: Path) -> str:
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[-1] if lines else "not run"


def stepper(directory: Path) -> str:
    """Points, states and failures of all builds together."""
    sums: dict[str, int] = defaultdict(int)
    files = sorted(directory.glob("stepper-*.txt"))
    for path in files:
        found = re.findall(r"(\d+) (points|states|beside|failures)", last_line(path))
        if not found:
            return f"{path.stem} did not end"
        for number, what in found:
            sums[what] += int(number)
    builds = ", ".join(path.stem.removeprefix("stepper-") for path in files)
    return (
        f"{sums['points']} points, {sums['states']} states after changes, {sums['beside']} beside another process, "
        f"{sums['failures']} failures ({builds})"
    )


def campaign(path: Path) -> str:
    """Kills and violations of all campaigns; of each variant the campaign whose worst operation was shortest."""
    pattern = re.compile(r"^(\w+) +(\d+) kills, +(\d+) in a lock, +(\d+) in a repair.* worst ([\d.]+) ms.* (\d+) violations")
    sums = [0, 0, 0, 0]
    worst: dict[str, list[float]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.exists() else []:
        if found := pattern.match(line):
            for place, group in enumerate((2, 3, 4, 6)):
                sums[place] += int(found[group])
            worst[found[1]].append(float(found[5]))
    best = ", ".join(f"{variant} {min(times)}" for variant, times in worst.items())
    return (
        f"{sums[0]} kills, {sums[1]} in a lock, {sums[2]} in a repair, {sums[3]} violations; "
        f"worst operation in ms, each variant's best campaign: {best or '-'}"
    )


def every(path: Path, pattern: str) -> str:
    """The lines that match, in one."""
    lines = path.read_text().splitlines() if path.exists() else []
    return "; ".join(line.strip() for line in lines if re.search(pattern, line)) or "not run"


def main(directory: Path) -> None:
    orders = every(directory / "orders.txt", r"^(caught|MISSED)")
    print("every instruction:", stepper(directory))
    print("wrong orders:     ", f"{orders.count('caught  ')} caught, {orders.count('MISSED')} missed")
    print("mutants:          ", last_line(directory / "mutants.txt"))
    print("kill -9:          ", campaign(directory / "campaign.txt"))
    print("in Python:        ", every(directory / "python.txt", r"^python "))
    print("real servers:     ", every(directory / "servers.txt", r"^served "))
    print("calls refused:    ", last_line(directory / "faults.txt"))
    print("bytes changed:    ", last_line(directory / "fuzz.txt"))
    print("histories:        ", last_line(directory / "histories.txt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
