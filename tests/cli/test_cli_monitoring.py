"""Drift and alerts from the command line, against a real hub with verdicts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import insert

from hub.store.schema import device_status, devices
from tests.cli.rig import RunningHub, Skerry
from tests.hub_api.test_monitoring_api import DEVICE, judged

CAMERA = "cam-with-a-wrong-clock"


@pytest.fixture(scope="module")
def verdicts(running_hub: RunningHub) -> None:
    judged(running_hub.hub)


@pytest.mark.usefixtures("verdicts")
def test_drift_is_shown_with_causes_features_devices_and_since_when(skerry: Skerry) -> None:
    said = skerry("drift", "show", "digits")
    assert said.code == 0, said.err
    for text in ("data quality", "stuck", "x0", DEVICE, "since", "0.800 (0.700 to 0.850)"):
        assert text in said.out
    assert len(skerry.json("drift", "show", "digits")["verdicts"]) == 2
    assert skerry("drift", "show", "nothing").code == 4


@pytest.mark.usefixtures("verdicts")
def test_the_history_is_a_plot_in_the_terminal_and_a_picture(
    skerry: Skerry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = skerry("drift", "history", "digits", "1")
    assert "█" in said.out
    assert [one["period_s"] for one in skerry.json("drift", "history", "digits", "1")] == [3600, 7200]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused = skerry("drift", "history", "digits", "1", "--png", tmp_path / "a.png", "--json")
    assert refused.error["code"] == "cli.no_plots"


@pytest.mark.usefixtures("verdicts")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own
def test_a_picture_is_drawn(skerry: Skerry, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert skerry("drift", "history", "digits", "1", "--png", tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("verdicts")
def test_versions_are_compared(skerry: Skerry) -> None:
    said = skerry("drift", "compare", "digits", "1", "1")
    assert said.code == 0, said.err
    assert "0.300" in said.out
    assert skerry("drift", "metrics", "digits").code == 0


def test_the_devices_that_do_worst_are_shown_with_how_far_off_their_clock_is(
    skerry: Skerry, running_hub: RunningHub
) -> None:
    heartbeat = {"system": {"temperature_c": 61.5, "clock_ahead_s": -90.25, "link": "https"}, "disk_free_bytes": 5}
    row = {"last_seen_s": 1.0, "epoch": "", "watermark": 0, "messages": 0, "dropped": 0, "malformed": 0}
    with running_hub.hub.db.write() as connection:
        who = {"device_id": CAMERA, "status": "active", "profile": "pi", "hardware_id": "", "enrolled_s": 1.0}
        connection.execute(insert(devices).values(**who))
        connection.execute(insert(device_status).values(device_id=CAMERA, **row, heartbeat=heartbeat, heartbeat_s=1.0))
    said = skerry("devices", "top")
    assert said.code == 0, said.err
    for text in (CAMERA, "clock s", "61.5", "-90.25"):
        assert text in said.out
    (found,) = [one for one in skerry.json("devices", "top") if one["device_id"] == CAMERA]
    assert found["readings"]["link"] == "https"


@pytest.mark.usefixtures("verdicts")
def test_alerts_are_listed_shown_seen_silenced_and_reported(skerry: Skerry) -> None:
    items = skerry.json("alerts", "list", "--model", "digits")
    alert = next(one for one in items if one["rule"] == "data-quality")
    assert "faulty-devices" in skerry("alerts", "list").out
    assert "docs/runbooks/data-quality.md" in skerry("alerts", "show", str(alert["alert_id"])).out
    done = skerry.json("alerts", "ack", str(alert["alert_id"]), "--verdict", "false", "--note", "a test")
    assert done["verdict"] == "false"
    assert skerry("alerts", "ack", str(alert["alert_id"]), "--verdict", "perhaps").code != 0
    made = skerry.json("alerts", "silence", "--rule", "input-drift", "--for", "8h", "--reason", "new site")
    assert "new site" in skerry("alerts", "silence").out
    assert skerry("alerts", "silence", "--end", str(made["silence_id"])).code == 0
    (row,) = [one for one in skerry.json("alerts", "report", "--days", "300") if one["rule"] == "data-quality"]
    assert row["precision"] == 0.0
    assert "data-quality" in skerry("alerts", "rules").out
    assert skerry("alerts", "list", "--all").code == 0


def test_devices_top_needs_nothing_to_be_wrong(skerry: Skerry) -> None:
    assert skerry("devices", "top").code == 0
