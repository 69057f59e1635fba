"""A rollout as people look at it: what it would do, and how it stands. Everything comes from the hub's answers.

A bar is one wave: its devices that succeeded, are under way, failed, went back and wait, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub.cli.output import fields_table, rows_table
from hub.cli.text import ago, duration, percent, plain, size, when

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["ENDED", "GOOD_ENDS", "forecast_views", "groups_table", "headline", "rollout_views", "summary_line"]

Json = Mapping[str, Any]
GOOD_ENDS = ("finished", "keeping")
"""All waves have passed; `keeping` goes on for devices that join later."""
ENDED = (*GOOD_ENDS, "aborted", "rolled_back")

_BAR_CHARS = 30
_PARTS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("succeeded", ("succeeded",), "█", "green"),
    ("under way", ("assigned", "downloading", "staged", "installing"), "▒", "yellow"),
    ("failed", ("failed", "reverted"), "█", "red"),
    ("going back", ("rolling_back",), "▒", "magenta"),
    ("back", ("rolled_back", "withdrawn"), "█", "blue"),
    ("waiting", ("waiting",), "·", "dim"),
)
"""What people tell apart: name, states of devices, sign and colour in the bar."""
_VERDICTS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
_STATES = {
    "passed": "green",
    "finished": "green",
    "keeping": "green",
    "failed": "red",
    "aborted": "red",
    "rolled_back": "red",
    "aborting": "red",
    "rolling_back": "red",
    "waiting": "dim",
}
_EXAMPLES_COUNT = 5


# --- what it would do -------------------------------------------------------------------------------------------------
def forecast_views(planned: Json) -> list[object]:
    """Devices, waves, bytes per class of link and what they cost, and who is left out."""
    plan, seen = planned["plan"], planned["forecast"]
    made = planned["rollout_id"]
    what = f"version {plan['version']} of {plan['model']} to {_devices(seen['devices'])}"
    said = f"Rolling out {what}: {made}" if made else f"This would roll out {what}."
    rows = [_wave_row(wave, group) for wave, group in zip(seen["waves"], plan["groups"], strict=True)]
    columns = ("wave", "share", "devices", "in all", "must succeed", "may fail", "bakes", "profiles")
    views: list[object] = [said, rows_table(columns, rows), _terms(plan)]
    if seen["links"]:
        views.append(_links_table(seen["links"]))
    if seen["outside"]:
        views.append(f"{_devices(seen['outside'])} could get it, but no wave has them.")
    if seen["skipped"]:
        counts = [(count, code) for code, count in sorted(seen["skipped"].items())]
        views.append(rows_table(("devices", "left out because"), counts))
        examples = [(item["device_id"], item["profile"], item["reason_code"]) for item in seen["examples"]]
        views.append(rows_table(("device", "profile", "reason"), examples[:_EXAMPLES_COUNT], title="For example"))
    return views


def _links_table(links: Sequence[Json]) -> Table:
    total = {key: sum(item[key] for item in links) for key in ("devices", "bytes", "cost")}
    rows = [
        (item["link_class"], item["devices"], size(item["bytes"]), _cost(item["cost"]))
        for item in (*links, {"link_class": "all", **total})
    ]
    return rows_table(("link", "devices", "at most", "cost"), rows, title="Over the network")


def _devices(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'}"


def _cost(amount: float) -> str:
    return f"{amount:.2f}" if amount else "-"


def _share(share_bp: int | None) -> str:
    return "-" if share_bp is None else f"{share_bp / 100:g} %"


def _wave_row(wave: Json, group: Json) -> tuple[object, ...]:
    profiles = ", ".join(f"{count} {profile}" for profile, count in sorted(wave["profiles"].items()))
    may_fail = _share(group.get("error_bp"))
    if group.get("max_failures") is not None:
        may_fail = f"{group['max_failures']}" if may_fail == "-" else f"{may_fail} or {group['max_failures']}"
    bakes = duration(group["bake_s"]) if group.get("bake_s") else "-"
    approved = ", then approval" if group.get("approve") else ""
    must = _share(group.get("success_bp", 9000))
    share = _share(group.get("percent_bp"))
    return (wave["name"], share, wave["devices"], wave["cumulative"], must, may_fail, f"{bakes}{approved}", profiles)


def _terms(plan: Json) -> Table:
    bakes = sum(group.get("bake_s", 0) for group in plan["groups"])
    fields: list[tuple[str, object]] = [
        ("strategy", plan.get("strategy") or "own waves"),
        ("takes at least", duration(bakes)),
        ("on failure", plan.get("on_failure", "pause").replace("_", " ")),
        ("gates", "; ".join(_demand(gate) for gate in plan.get("gates", ())) or "none"),
    ]
    rate, window = plan.get("rate"), plan.get("window")
    if rate:
        fields.append(("rate", f"{rate['base']} devices a minute, at most {rate['cap']}"))
    if window:
        fields.append(("window", f"{window['cron']} for {duration(window['duration_s'])}, {window['timezone']}"))
    fields += [(name, when(plan[key])) for name, key in (("starts", "start_s"), ("ends", "end_s")) if plan.get(key)]
    return fields_table(fields)


def _demand(gate: Json) -> str:
    limit = f"{gate['threshold_ppm'] / 10_000:g} %"
    than = " above control" if gate.get("compare") == "control" else ""
    return f"{gate['metric']} {gate['operator']} {limit}{than}"


# --- how it stands ----------------------------------------------------------------------------------------------------
def headline(rollout: Json, now: float) -> Table:
    """What it is, how it stands and why."""
    reason, waits = rollout["reason"], rollout["waits_for"]
    return fields_table(
        [
            ("rollout", rollout["rollout_id"]),
            ("what", f"version {rollout['version']} of {rollout['model']}"),
            ("status", rollout["status"]),
            ("because", reason["message"] if reason else ""),
            ("waits for", waits["message"] if waits else ""),
            ("made", f"{ago(rollout['created_s'], now)} by {rollout['created_by']}"),
            ("note", rollout["plan"].get("note", "")),
        ]
    )


def groups_table(groups: Sequence[Json]) -> Table:
    """One bar per wave, with its numbers and what it waits for."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("wave", "share", "status", "", "devices", "waits for"):
        table.add_column(name, overflow="fold", no_wrap=name == "")
    for group in groups:
        waits = group["waits_for"]["message"] if group["waits_for"] else ""
        table.add_row(
            Text(plain(group["name"])),
            _share(group["percent_bp"]),
            Text(group["status"].replace("_", " "), style=_STATES.get(group["status"], "yellow")),
            _bar(group["counts"]),
            _numbers(group["counts"]),
            Text(plain(waits) if waits else ""),
        )
    return table


def _amounts(counts: Json) -> list[tuple[str, int, str, str]]:
    return [(name, sum(counts[state] for state in states), sign, style) for name, states, sign, style in _PARTS]


def _bar(counts: Json) -> Text:
    from rich.text import Text

    amounts = _amounts(counts)
    total = sum(amount for _, amount, _, _ in amounts)
    bar = Text()
    done = drawn = 0
    for _, amount, sign, style in amounts:
        done += amount
        upto = round(_BAR_CHARS * done / total) if total else 0
        if amount and upto == drawn and drawn < _BAR_CHARS:
            upto += 1  # what is there is seen, however little it is
        bar.append(sign * (upto - drawn), style=style)
        drawn = max(drawn, upto)
    return bar.append(" " * (_BAR_CHARS - drawn))


def _numbers(counts: Json) -> str:
    shown = [f"{amount} {name}" for name, amount, _, _ in _amounts(counts) if amount]
    shown += [f"{counts[state]} {state}" for state in ("superseded", "skipped") if counts[state]]
    return ", ".join(shown) or "nobody"


def rollout_views(rollout: Json, events: Sequence[Json], now: float) -> Iterator[object]:
    """The whole picture: waves, gates with their numbers, failing devices with reasons, and what happened last."""
    yield headline(rollout, now)
    yield groups_table(rollout["groups"])
    if rollout["gates"]:
        yield _gates_table(rollout)
    if rollout["failures"]:
        failing = [
            (item["devices"], item["reason_code"], item["reason"], ", ".join(item["examples"]))
            for item in rollout["failures"]
        ]
        yield rows_table(("devices", "code", "reason", "for example"), failing, title="Failing devices")
    if events:
        rows = [(ago(item["at_s"], now), *_event_cells(item, rollout["groups"])) for item in events]
        yield rows_table(("when", "what", "wave", "why", "by"), rows, title="Newest events")


def _gates_table(rollout: Json) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Gates", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("gate", "devices", "verdict", "n", "numbers"):
        table.add_column(name, overflow="fold", justify="right" if name == "n" else "left")
    gates = rollout["plan"].get("gates", [])
    for result in rollout["gates"]:
        demand = _demand(gates[result["gate_no"]]) if result["gate_no"] < len(gates) else result["metric"]
        numbers = result["reason"]["numbers"]
        table.add_row(
            Text(plain(demand)),
            Text(plain(result["profile"] or "all")),
            Text(result["verdict"], style=_VERDICTS.get(result["verdict"], "")),
            str(numbers.get("n", "")),
            Text(plain(result["reason"]["message"])),
        )
    return table


def _event_cells(event: Json, groups: Sequence[Json]) -> tuple[object, ...]:
    number = event["group_no"]
    wave = "" if number is None else groups[number]["name"]
    return (event["kind"].replace("_", " "), wave, event["message"], event["by"])


def summary_line(rollout: Json) -> str:
    """One line for a log: the status, and each wave that has begun."""
    parts = [rollout["status"].replace("_", " ")]
    for group in rollout["groups"]:
        counts = group["counts"]
        total = sum(amount for _, amount, _, _ in _amounts(counts))
        if group["status"] != "waiting":
            done = counts["succeeded"]
            parts.append(f"{group['name']} {group['status'].replace('_', ' ')}: {done} of {total}"
                         f" ({percent(done, total)}), {_numbers(counts)}")  # fmt: skip
    waits = rollout["waits_for"] or next((g["waits_for"] for g in rollout["groups"] if g["waits_for"]), None)
    if waits and rollout["status"] not in ENDED:
        parts.append(f"waits: {waits['message']}")
    return "; ".join(parts)
