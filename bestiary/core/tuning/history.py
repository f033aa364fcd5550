"""What a run logged, through all its attempts, and a picture of it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

CURVES = "curves.png"


def read_history(logs: Path) -> dict[str, list[tuple[int, float]]]:
    """The values of each name by the steps at which they were logged. Steps that were taken again count as they were last."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(logs.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.removeprefix("version_"))):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = int(row["step"])
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        found.setdefault(name, {})[step] = float(value)
    return {name: sorted(values.items()) for name, values in sorted(found.items())}


def draw_curves(history: dict[str, list[tuple[int, float]]], path: Path, title: str) -> None:
    """Write a picture of the curves: the losses in one panel, each other value in one of its own."""
    from matplotlib.figure import Figure

    losses = [name for name in history if name.endswith("loss")]
    panels: list[list[str]] = [losses, *([name] for name in history if name not in losses)]
    figure: Any = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    figure.suptitle(title)
    for place, names in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name in names:
            steps, values = zip(*history[name], strict=True)
            axes.plot(steps, values, label=name, marker="." if len(steps) < 20 else None)
        axes.set_xlabel("step")
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
