"""Plots of results, as SVG: plain, readable without colour, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "sessile", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

from matplotlib import pyplot  # noqa: E402 - after the choice of what draws

OURS, THEIRS = "#b04a1f", "#9aa5ad"


def bars(values: Mapping[str, float], ours: str, unit: str, path: Path) -> None:
    """One bar a name, the shortest on top, on a logarithmic scale."""
    names = sorted(values, key=lambda name: values[name])
    figure, axes = pyplot.subplots(figsize=(7.2, 0.24 * len(names) + 0.7))
    colours = [OURS if name.startswith(ours) else THEIRS for name in names]
    drawn = axes.barh(names, [values[name] for name in names], color=colours, log=True)
    axes.bar_label(drawn, [f"{values[name]:.3g}" for name in names], padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit} (logarithmic: each line is ten times the one before)")
    axes.margins(x=0.12, y=0.01)
    _save(figure, path)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], ours: str, across: str, up: str, path: Path
) -> None:
    """One line a name over a logarithmic horizontal scale."""
    figure, axes = pyplot.subplots(figsize=(7.2, 3.6))
    styles = ("-", "--", ":", "-.")
    for number, (name, points) in enumerate(series.items()):
        mine = name.startswith(ours)
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            styles[number % len(styles)],
            marker="o",
            markersize=3,
            color=OURS if mine else "#4d5a63",
            label=name,
        )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
