"""Policies from the command line: set from files, shown, tried, written out and taken over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.registry.models import ModelChange
from tests.cli.rig import RunningHub, Skerry

TRAIN = "when:\n  - alarm: {severity: info}\n    new_samples: 500\ncooldown_s: 12h\n"
DEPLOY = "action: rollout\nrollout: {targets: {filter: all}, strategy: canary}\n"
MODEL = "policied"


@pytest.fixture(scope="module")
def model(running_hub: RunningHub) -> str:
    running_hub.hub.models.create(MODEL, ModelChange(), "test")
    return MODEL


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_training_policy_is_set_shown_tried_and_removed(skerry: Skerry, model: str, tmp_path: Path) -> None:
    file = write(tmp_path, "triggers.yaml", TRAIN)
    assert skerry("federated", "triggers", "set", model, file).code == 0
    assert '"cooldown_s": "12h"' in skerry("federated", "triggers", "show", model).out
    assert model in skerry("federated", "triggers", "list").out
    said = skerry("federated", "triggers", "test", model)
    assert said.code == 0, said.err
    assert said.out.startswith("Would not fire because no alarm of at least info is open")
    for word in ("when[0]", "new_samples", "wanted 500", "data_quality", "cooldown", "federated.no_base"):
        assert word in said.out, word
    draft = write(tmp_path, "draft.yaml", "when: [{accuracy_drop: 3}]")
    assert "not estimated" in skerry.json("federated", "triggers", "test", model, draft)["reason"]
    assert skerry.json("federated", "triggers", "fired", "--model", model) == []
    bad = write(tmp_path, "bad.yaml", TRAIN.replace("alarm", "alrm"))
    refused = skerry("federated", "triggers", "set", model, bad, "--json")
    assert (refused.code, refused.error["detail"]["field"]) == (2, "when[0].alrm")
    assert skerry("federated", "triggers", "remove", model, "--yes").code == 0
    assert skerry("federated", "triggers", "show", model).code == 4
    assert skerry("federated", "triggers", "set", model, tmp_path / "none.yaml").code == 2


def test_a_policy_for_approved_versions_is_set_shown_tried_and_removed(
    skerry: Skerry, model: str, tmp_path: Path
) -> None:
    said = skerry("rollout", "policy", "set", model, write(tmp_path, "deploy.yaml", DEPLOY))
    assert "are rolled out by themselves" in said.out, said.err
    assert '"strategy": "canary"' in skerry("rollout", "policy", "show", model).out
    assert model in skerry("rollout", "policy", "list").out
    assert skerry("rollout", "policy", "test", model).code == 4, "there is no version yet"
    assert skerry("rollout", "policy", "remove", model, "--yes").code == 0


def test_all_policies_go_through_one_file(skerry: Skerry, model: str, tmp_path: Path) -> None:
    skerry("federated", "triggers", "set", model, write(tmp_path, "triggers.yaml", TRAIN))
    skerry("rollout", "policy", "set", model, write(tmp_path, "deploy.yaml", DEPLOY))
    out = tmp_path / "policies.json"
    assert skerry("policies", "export", "--out", out).code == 0
    assert json.loads(out.read_text()) == skerry.json("policies", "export")
    assert {one["change"] for one in skerry.json("policies", "apply", out)} == {"same"}
    changed = json.loads(out.read_text())
    del changed["deploy"][model]
    changed["train"][model]["enabled"] = False
    file = write(tmp_path, "changed.json", json.dumps(changed))
    said = skerry("policies", "apply", file, "--prune")
    assert "cli.not_confirmed" in said.err, "it asks before it removes something"
    planned = {(one["kind"], one["change"]) for one in skerry.json("policies", "apply", file, "--prune", "--dry-run")}
    assert planned == {("train", "changed"), ("deploy", "removed")}
    assert skerry("policies", "apply", file, "--prune", "--yes").code == 0
    assert skerry("rollout", "policy", "show", model).code == 4
    assert '"enabled": false' in skerry("federated", "triggers", "show", model).out
