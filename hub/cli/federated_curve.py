"""The learning curve of a federated run as a picture. Needs matplotlib, which nothing else of the command line does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.cli.federated_view import accuracy
from shared.errors import NotFound

__all__ = ["draw_curve"]

Json = Mapping[str, Any]


def draw_curve(path: Path, run: Json, rounds: Sequence[Json]) -> None:
    """Accuracy by round, and how many devices' updates went in; errors `cli.no_plots`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotFound(
            "cli.no_plots", "Pictures need matplotlib.", hint="Install it with `pip install 'skerry[plots]'`."
        ) from error
    complete = [made for made in rounds if not made["abandoned"]]
    figure = Figure(figsize=(9, 5))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    measured = [(made["round_no"], found) for made in complete if (found := accuracy(made)) is not None]
    if measured:
        numbers, values = zip(*measured, strict=True)
        upper.plot(numbers, values, marker="o", label="accuracy on the devices, before the round")
        upper.legend()
    upper.set_ylabel("accuracy")
    upper.set_title(f"{run['model']}, from version {run['version']}: {run['run_id']}")
    lower.bar([made["round_no"] for made in complete], [made["admitted"] for made in complete], label="updates")
    lower.set_ylabel("devices")
    lower.set_xlabel("round")
    figure.savefig(path, format="png")
