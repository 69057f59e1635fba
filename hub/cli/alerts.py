"""`skerry alerts`: what is wrong, who has seen it, what is silenced, and how often alerts were right."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hub.cli.devices import LimitOption
from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, parse_duration, plain, when
from shared.errors import InvalidInput

__all__ = ["app"]

app = new_group("alerts", "Alerts: list, show, acknowledge, silence; rules, and how often they were right.")

AlertArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the alert.")]
_VERDICTS = ("real", "false")


@command(app, "list", examples=["skerry alerts list", "skerry alerts list --all --model digits"])
def list_alerts(
    session: Session,
    everything: Annotated[bool, typer.Option("--all", help="Also what is resolved.")] = False,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only of this model.")] = None,
    limit: LimitOption = None,
) -> None:
    """List alerts, newest first; pending and resolved ones only with --all."""
    states = ["pending", "open", "acknowledged", "resolved"] if everything else ["open", "acknowledged"]
    items = list(session.client.pages("/v1/alerts", state=states, model=model, limit=limit))
    now = session.now()
    rows = [
        (
            one["alert_id"],
            one["severity"],
            one["rule"],
            f"{one['model']} {one['version']}",
            one["level"],
            one["state"],
            ago(one["opened_s"] or one["began_s"], now),
            one["verdict"],
        )
        for one in items
    ]
    columns = ("id", "severity", "rule", "version", "level", "state", "since", "verdict")
    session.out.rows(items, columns, rows, empty="No alert is open.")


@command(app, "show", examples=["skerry alerts show 12"])
def show_alert(session: Session, alert: AlertArgument) -> None:
    """Show one alert: what was found, since when, where, and what to read."""
    one = session.client.get(f"/v1/alerts/{alert}")
    fired = session.client.get(f"/v1/alerts/{alert}/firings")["items"]
    fields = [
        ("rule", f"{one['rule']} ({one['severity']})"),
        ("version", f"{one['model']} {one['version']}, {one['level']}"),
        ("state", one["state"]),
        ("began", when(one["began_s"])),
        ("opened", when(one["opened_s"])),
        ("resolved", when(one["resolved_s"])),
        ("seen by", one["acknowledged_by"]),
        ("verdict", " ".join((one["verdict"], one["note"])).strip()),
        ("training", ", ".join(item["run_id"] or f"none ({item['code'] or item['state']})" for item in fired)),
        ("runbook", f"docs/runbooks/{one['rule']}.md"),
    ]
    detail = json.dumps(one["detail"], indent=2, ensure_ascii=False)
    session.out.result({**one, "firings": fired}, fields_table([field for field in fields if field[1]]), plain(detail))


@command(app, "ack", examples=["skerry alerts ack 12 --verdict real --note 'a dirty lens'"])
def acknowledge(
    session: Session,
    alert: AlertArgument,
    verdict: Annotated[str, typer.Option("--verdict", help="Was it real, or false?")] = "",
    note: Annotated[str, typer.Option("--note", help="What it was.")] = "",
) -> None:
    """Say that you have seen it, and whether it was real; the report of precision lives on that."""
    if verdict and verdict not in _VERDICTS:
        raise InvalidInput("cli.verdict", f"{verdict!r:.40} is no verdict.", hint="Give real or false.")
    done = session.client.post(f"/v1/alerts/{alert}/ack", {"verdict": verdict, "note": note})
    session.out.result(done, f"Alert {alert} is {done['state']}.")


@command(
    app,
    "silence",
    examples=[
        "skerry alerts silence --rule input-drift --model digits --for 8h --reason 'new site'",
        "skerry alerts silence --end 3",
    ],
)
def silence(
    session: Session,
    rule: Annotated[str, typer.Option("--rule", help="Only this rule.")] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="Only this model.")] = "",
    level: Annotated[str, typer.Option("--level", help="Only this level, like profile:pi.")] = "",
    lasts: Annotated[str | None, typer.Option("--for", help="How long, like 8h; at most 30d.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why.")] = "",
    end: Annotated[int | None, typer.Option("--end", metavar="ID", min=1, help="End this silence instead.")] = None,
) -> None:
    """Have nothing told of what matches for a time; without options: what is silenced now."""
    if end is not None:
        session.client.delete(f"/v1/alerts/silences/{end}")
        session.out.result({"silence_id": end, "ended": True}, f"Silence {end} has ended.")
    elif lasts is None:
        items = session.client.get("/v1/alerts/silences")["items"]
        rows = [
            (one["silence_id"], one["rule"], one["model"], one["level"], when(one["until_s"]), one["by"], one["reason"])
            for one in items
        ]
        columns = ("id", "rule", "model", "level", "until", "by", "why")
        session.out.rows(items, columns, rows, empty="Nothing is silenced.")
    else:
        wish = {"rule": rule, "model": model, "level": level, "for_s": parse_duration(lasts), "reason": reason}
        made = session.client.post("/v1/alerts/silences", wish)
        session.out.result(made, f"Silence {made['silence_id']} lasts until {when(made['until_s'])}.")


@command(app, "rules", examples=["skerry alerts rules"])
def rules(session: Session) -> None:
    """List the rules in force."""
    items = session.client.get("/v1/alerts/rules")["items"]
    rows = [
        (
            one["name"],
            one["severity"],
            one["signal"],
            f"{one['threshold']:g} / {one['clear']:g}",
            f"{one['open_after']} / {one['close_after']}",
            ", ".join(one["routes"]) or "(default)",
            "" if one["enabled"] else "off",
        )
        for one in items
    ]
    columns = ("rule", "severity", "signal", "opens / clears at", "after periods", "routes", "")
    session.out.rows(items, columns, rows, empty="There are no rules.")


@command(app, "report", examples=["skerry alerts report --days 90"])
def report(
    session: Session, days: Annotated[float, typer.Option("--days", min=0.1, max=366, help="Looking back.")] = 30.0
) -> None:
    """Show how many alerts each rule opened, and how many of those that somebody judged were real."""
    answer = session.client.get("/v1/alerts/report", days=days)
    rows = [
        (
            one["rule"],
            one["opened"],
            one["acknowledged"],
            one["real"],
            one["false"],
            "" if one["precision"] is None else f"{one['precision']:.0%}",
        )
        for one in answer["items"]
    ]
    columns = ("rule", "opened", "acknowledged", "real", "false", "precision")
    session.out.rows(answer["items"], columns, rows, empty="No alert was opened.")
