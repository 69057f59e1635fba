"""`skerry drift`: what the fleet's data and predictions look like beside the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.devices import LimitOption
from hub.cli.drift_text import SEVERITIES, bars, device_rows, fault_rows, feature_rows, summary_row
from hub.cli.output import rows_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, plain, when
from shared.errors import InvalidInput, NotFound
from shared.ids import parse_model_name

__all__ = ["app"]

app = new_group("drift", "Drift: what devices see, beside what the version was made for.")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
VersionOption = Annotated[int | None, typer.Option("--version", "-v", min=1, help="Default: the newest judged one.")]
_FEATURES_COUNT = 12
_SUMMARY = ("version", "level", "severity", "rows", "score", "estimated accuracy", "errors among truths")
_FEATURES = ("feature", "of", "distance", "", "moved", "p", "found")


@command(app, "show", examples=["skerry drift show digits", "skerry drift show digits --version 3 --json"])
def show_drift(session: Session, model: ModelArgument, version: VersionOption = None) -> None:
    """Show the newest verdicts: severity by level, faults by cause, what moved, and which devices."""
    answer = session.client.get(f"/v1/drift/{parse_model_name(model)}", version=version)
    verdicts = answer["verdicts"]
    if not verdicts:
        session.out.result(answer, "Nothing was judged yet: a verdict comes after the end of a period.")
        return
    newest = [one for one in verdicts if one["version"] == verdicts[0]["version"]]
    views: list[object] = [rows_table(_SUMMARY, [summary_row(one) for one in verdicts])]
    for one in newest:
        views += _devices(one) if one["level"] == "devices" else _level(one) if one["level"] == "fleet" else []
    views.append(f"Judged: the period of {ago(newest[0]['period_s'], session.now())}.")
    session.out.result(answer, *views)


def _level(verdict: dict[str, Any]) -> list[object]:
    result = verdict["result"]
    views: list[object] = []
    if result["faults"]:
        views.append(rows_table(("feature", "cause", "rows", "share"), fault_rows(result), title="Faults"))
    if result["drifted"]:
        views.append(rows_table(_FEATURES, feature_rows(result, _FEATURES_COUNT), title="Most moved"))
    if result["refused"]:
        said = ", ".join(f"{count} {plain(cause)}" for cause, count in sorted(result["refused"].items()))
        views.append(f"Requests refused: {said}.")
    views += [f"{plain(subject)} since {when(since)}." for subject, since in sorted(result["since"].items())]
    return views


def _devices(verdict: dict[str, Any]) -> list[object]:
    rows = device_rows(verdict["result"], 20)
    return [rows_table(("device", "profile", "what", "means"), rows, title="Devices")] if rows else []


@command(app, "history", examples=["skerry drift history digits 3", "skerry drift history digits 3 --png drift.png"])
def drift_history(
    session: Session,
    model: ModelArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Version number.")],
    level: Annotated[str, typer.Option("--level", help="`fleet`, or `profile:` and its name.")] = "fleet",
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Also draw it (needs matplotlib).")] = None,
    limit: LimitOption = 48,
) -> None:
    """Show how distance and estimated accuracy went, period by period."""
    path = f"/v1/drift/{parse_model_name(model)}/{version}/history"
    items = list(session.client.pages(path, level=level, limit=limit))[::-1]
    if level == "devices":
        raise InvalidInput("cli.level", "Devices have no history of distances.", hint="Use --level fleet.")
    scores = [float(one["result"]["score"]) for one in items]
    if png is not None:
        _draw(png, items, f"{model} {version}, {level}")
        session.out.note(f"Drawn into {png}.")
    rows = [
        (when(one["period_s"]), SEVERITIES[one["severity"]], one["rows"], f"{score:.3f}", bars([score], max(scores)))
        for one, score in zip(items, scores, strict=True)
    ]
    session.out.rows(items, ("period", "severity", "rows", "distance", ""), rows, empty="Nothing was judged yet.")


def _draw(path: Path, items: list[dict[str, Any]], title: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotFound(
            "cli.no_plots", "Pictures need matplotlib.", hint="Install it with `pip install 'skerry[plots]'`."
        ) from error
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    periods = [one["period_s"] for one in items]
    axes.plot(periods, [one["result"]["score"] for one in items], marker="o", label="distance of inputs")
    estimated = [
        (one["period_s"], found["value"], found["low"], found["high"])
        for one in items
        for found in one["result"]["estimated"]
        if found["metric"] == "accuracy"
    ]
    if estimated:
        at, value, low, high = zip(*estimated, strict=True)
        axes.plot(at, value, label="estimated accuracy")
        axes.fill_between(at, low, high, alpha=0.2)
    axes.set_title(title)
    axes.set_xlabel("seconds since 1970")
    axes.legend()
    figure.savefig(path, format="png")


@command(app, "compare", examples=["skerry drift compare digits 2 3"])
def compare_drift(
    session: Session,
    model: ModelArgument,
    first: Annotated[int, typer.Argument(metavar="VERSION", min=1)],
    second: Annotated[int, typer.Argument(metavar="OTHER", min=1)],
) -> None:
    """Compare the newest verdicts of two versions, feature by feature."""
    path = f"/v1/drift/{parse_model_name(model)}"
    found = [_fleet(session.client.get(path, version=version)) for version in (first, second)]
    by_name = [{one["feature"]: one for one in verdict["result"]["drifted"]} for verdict in found]
    names = sorted(set(by_name[0]) | set(by_name[1]), key=lambda name: -_most(by_name, name))
    rows = [(name, *(f"{side[name]['js']:.3f}" if name in side else "" for side in by_name)) for name in names[:30]]
    data = {"model": model, "versions": [first, second], "verdicts": found}
    session.out.result(
        data,
        rows_table(_SUMMARY, [summary_row(one) for one in found]),
        rows_table(("feature", f"version {first}", f"version {second}"), rows),
    )


def _fleet(answer: dict[str, Any]) -> dict[str, Any]:
    for one in answer["verdicts"]:
        if one["level"] == "fleet" and not one["arm"]:
            found: dict[str, Any] = one
            return found
    raise NotFound("drift.not_judged", "Nothing was judged yet of one of the versions.", hint="Wait for a period.")


def _most(sides: list[dict[str, Any]], name: str) -> float:
    return max(float(side[name]["js"]) for side in sides if name in side)


@command(app, "metrics", examples=["skerry drift metrics digits --hours 48"])
def app_metrics(
    session: Session,
    model: ModelArgument,
    hours: Annotated[float, typer.Option("--hours", min=0.1, help="Added up over so many.")] = 24.0,
) -> None:
    """Show what applications counted, by version and experiment arm."""
    items = session.client.get(f"/v1/drift/{parse_model_name(model)}/metrics", hours=hours)["items"]
    rows = [
        (
            one["name"],
            one["kind"],
            one["version"] or "",
            one["arm"],
            one["count"],
            f"{one['total']:g}" if one["kind"] == "counter" else f"mean {one['total'] / one['count']:g}",
        )
        for one in items
    ]
    columns = ("metric", "kind", "version", "arm", "times", "value")
    session.out.rows(items, columns, rows, empty="Applications have counted nothing for this model.")
