"""A federated run as people look at it: what it would do, how it stands, its rounds. All of it from the hub's answers.

A bar is one round: its devices whose updates went in, were refused, dropped out and never came, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub.cli.output import fields_table, rows_table
from hub.cli.text import ago, duration, plain, size, style_of

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["ENDED", "accuracy", "forecast_views", "headline", "reason", "round_line", "rounds_table", "run_views"]

Json = Mapping[str, Any]
ENDED = ("finished", "failed", "cancelled")
_BAR_CHARS = 12
_EXAMPLES_COUNT = 5
_COLUMNS = ("round", "devices", "", "accuracy", "down", "up", "took", "refused")


# --- what it would do -------------------------------------------------------------------------------------------------
def forecast_views(planned: Json) -> list[object]:
    """Who would take part, why others would not, and what one round sends over links of each class."""
    seen, run, definition = planned["forecast"], planned["run"], planned["definition"]
    what = f"the head of version {planned['version']} of {definition['model']} ({planned['weights']} weights)"
    said = f"{run['run_id']} trains {what}." if run else f"This would train {what}."
    views: list[object] = [said]
    views.append(
        f"{seen['devices']} devices with {seen['samples']} samples could take part now; a round asks {seen['asked']} "
        f"and needs {seen['quorum']}."
    )
    if not seen["enough"]:
        wait = duration(definition["rounds"]["wait_s"])
        views.append(f"That is too few: a run waits {wait} for devices, then it fails.")
    if seen["links"]:
        columns = ("link", "devices", "asked a round", "down a round", "up a round", "cost a round")
        rows = [
            (
                link["link_class"], link["devices"], f"{link['asked']:g}", size(link["bytes_down"]),
                size(link["bytes_up"]), f"{link['cost']:.4f}" if link["cost"] else "-",
            )
            for link in seen["links"]
        ]  # fmt: skip
        views.append(rows_table(columns, rows))
    if seen["skipped"]:
        views.append(rows_table(("devices", "left out because"), [(n, code) for code, n in seen["skipped"].items()]))
        examples = [(one["device_id"], one["code"]) for one in seen["examples"][:_EXAMPLES_COUNT]]
        views.append(rows_table(("device", "reason"), examples, title="For example"))
    return views


# --- how it stands ----------------------------------------------------------------------------------------------------
def headline(run: Json, now: float) -> Table:
    """What it is and how far it is."""
    abandoned = run["attempts"] - run["round_no"]
    fields = [
        ("run", run["run_id"]),
        ("state", run["state"].replace("_", " ")),
        ("model", f"{run['model']}, from version {run['version']} ({run['weights']} weights)"),
        ("rounds", f"{run['round_no']} of {run['rounds']}" + (f", {abandoned} abandoned" if abandoned else "")),
        ("bytes", f"{size(run['bytes_down'])} down, {size(run['bytes_up'])} up"),
        ("begun", f"{ago(run['created_s'], now)} by {run['trigger'] or run['created_by']}"),
    ]
    if run["started_s"] is not None:
        fields.append(("took", duration((run["ended_s"] or now) - run["started_s"])))
    why = reason(run)
    if why:
        fields.append(("because", why))
    if run["privacy"]:
        fields.append(("privacy", _privacy(run["privacy"])))
    if run["evaluation"]:
        fields.append(("devices say", _evaluation(run["evaluation"])))
    if run["result"]:
        fields.append(("result", _result(run["result"])))
    return fields_table(fields)


def reason(run: Json) -> str:
    """Why it ended, or is about to."""
    if run["code"]:
        return f"{run['message']} [{run['code']}]"
    if run["cancelled_by"]:
        return f"{run['cancelled_by']} cancelled it"
    return str(run["reason"])


def _privacy(spent: Json) -> str:
    where = {"server": "noise of the hub", "client": "noise of the devices"}[spent["mode"]]
    sums = ", sums only" if spent["secure_aggregation"] else ""
    times = f"{spent['releases']} time{'' if spent['releases'] == 1 else 's'}"
    return f"epsilon {spent['epsilon']:.2f} at delta {spent['delta']:g} spent ({where}, {times}{sums})"


def _evaluation(found: Json) -> str:
    whole = found["whole"]
    return (
        f"accuracy {whole['accuracy']:.3f} on their held-out samples, {whole['base_accuracy']:.3f} with the version "
        f"before ({whole['devices']} of {found['asked']} devices)"
    )


def _result(result: Json) -> str:
    if result.get("version") is None:
        return f"no version: {result.get('reason', '')} [{result.get('code', '')}]"
    passed = {True: "its gate passed", False: "its gate failed", None: "its gate was not run"}[result["gate_passed"]]
    more = f": {result['reason']}" if result.get("reason") else ""
    return f"version {result['version']}; {passed}{more}"


def accuracy(made: Json) -> float | None:
    """The accuracy that devices measured before they trained in this round: on held-out samples, if there were any."""
    found = made["metrics"].get("held_out_accuracy", made["metrics"].get("accuracy"))
    return None if found is None else float(found)


def _amounts(made: Json) -> list[tuple[int, str, str]]:
    absent = max(0, made["asked"] - made["admitted"] - made["rejected"] - made["dropped"])
    return [
        (made["admitted"], "█", "green"),
        (made["rejected"], "█", "red"),
        (made["dropped"], "▒", "yellow"),
        (absent, "·", "dim"),
    ]


def _bar(made: Json) -> Text:
    from rich.text import Text

    amounts = _amounts(made)
    total, bar, done, drawn = sum(amount for amount, _, _ in amounts), Text(), 0, 0
    for amount, sign, style in amounts:
        done += amount
        upto = round(_BAR_CHARS * done / total) if total else 0
        if amount and upto == drawn and drawn < _BAR_CHARS:
            upto += 1  # what is there is seen, however little it is
        bar.append(sign * (upto - drawn), style=style)
        drawn = max(drawn, upto)
    return bar.append(" " * (_BAR_CHARS - drawn))


def rounds_table(rounds: Sequence[Json]) -> Table:
    """A line for each attempt at a round."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Rounds", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 0))
    for name in _COLUMNS:
        words = name in ("", "refused")
        table.add_column(name, overflow="fold", no_wrap=name != "refused", justify="left" if words else "right")
    for made in rounds:
        measured = accuracy(made)
        table.add_row(
            str(made["round_no"]),
            f"{made['admitted']} of {made['asked']}",
            _bar(made),
            "-" if measured is None else f"{measured:.3f}",
            size(made["bytes_down"]),
            size(made["bytes_up"]),
            f"{made['seconds']:.1f} s",
            Text(plain(_refused(made)), style=style_of("failed") if made["abandoned"] else ""),
        )
    return table


def _refused(made: Json) -> str:
    counts: dict[str, int] = {}
    for fate in made["devices"].values():
        if "." in fate:
            counts[fate] = counts.get(fate, 0) + 1
    said = ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))
    gone = f"abandoned: {made['abandoned']}" if made["abandoned"] else ""
    return "; ".join(part for part in (gone, said) if part) or " "


def run_views(run: Json, rounds: Sequence[Json], now: float, traffic: Sequence[Json] = ()) -> Iterator[object]:
    """The whole picture. traffic: what went over links of each class."""
    yield headline(run, now)
    if rounds:
        yield rounds_table(rounds)
    if traffic:
        columns = ("link", "devices", "down", "up", "cost")
        rows = [
            (
                one["link"], one["devices"], size(one["bytes_down"]), size(one["bytes_up"]),
                f"{one['cost']:.4f}" if one["cost"] else "-",
            )
            for one in traffic
        ]  # fmt: skip
        yield rows_table(columns, rows, title="Bytes by class of link, so far")


def round_line(made: Json) -> str:
    """One line for a log."""
    measured = accuracy(made)
    parts = [f"round {made['round_no']}: {made['admitted']} of {made['asked']} devices"]
    parts += [f"{made['dropped']} dropped out"] if made["dropped"] else []
    parts += [] if measured is None else [f"accuracy {measured:.3f}"]
    parts += [f"{size(made['bytes_down'])} down, {size(made['bytes_up'])} up, {made['seconds']:.1f} s"]
    refused = _refused(made).strip()
    return ", ".join(parts) + (f"; {refused}" if refused else "")
