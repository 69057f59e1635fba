"""The ready files for Prometheus and Grafana ask only for series that the hub has; `promtool` checks them too."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.api import prometheus
from hub.ingest.service import Totals

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "monitoring"
SERIES = re.compile(r"skerry_[a-z_]+")


def served() -> set[str]:
    source = Path(prometheus.__file__).read_text()
    names = set(re.findall(r'"(skerry_[a-z_]+)"', source))
    assert Totals.__struct_fields__
    return (
        names
        | {f"skerry_version_{name}" for name in ("devices", "requests", "errors")}
        | {"skerry_ingest_messages_total"}
    )


def expressions() -> list[str]:
    rules: Any = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    board = json.loads((FOLDER / "dashboard.json").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return found + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_every_series_that_is_asked_for_is_served() -> None:
    assert {name for text in expressions() for name in SERIES.findall(text)} <= served()


def test_rules_have_all_that_prometheus_wants_of_them() -> None:
    rules: Any = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    for group in rules["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert re.fullmatch(r"\d+m", rule["for"])


def test_panels_have_their_own_numbers_and_places() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


_MISSING = shutil.which("promtool") is None and os.environ.get("CI") != "true"


@pytest.mark.skipif(_MISSING, reason="promtool (Debian's prometheus) is not installed")
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(FOLDER / "alerts.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
