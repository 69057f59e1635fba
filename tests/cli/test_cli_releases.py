"""From the parts of a model to devices, by commands only: build, register, gate, compare, promote, deploy, watch."""

from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared import durable
from shared.bundle.archive import read_manifest
from shared.ids import parse_sha256
from tests.cli.rig import RunningHub, Skerry
from tests.models import digits_model, load_digits

HELD_OUT_COUNT = 200


@dataclasses.dataclass(frozen=True)
class Workshop:
    """A folder with the parts of a model, and a name for it that no other test uses."""

    folder: Path
    model: str

    def parts(self, version: int) -> list[str | Path]:
        files = {
            "--extractor": "extractor.tflite",
            "--head": "head.tflite",
            "--weights": "weights.npz",
            "--preprocessing": "steps.yaml",
            "--labels": "labels.txt",
            "--golden": "golden.npy",
            "--card": "card.md",
        }
        words: list[str | Path] = ["--version", str(version), "--lineage-data-name", "digits"]
        return words + [word for option, name in files.items() for word in (option, self.folder / name)]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    made, data = digits_model(), load_digits()
    (folder / "extractor.tflite").write_bytes(made.extractor)
    (folder / "head.tflite").write_bytes(made.head)
    weights: dict[str, Any] = dict(made.weights)
    np.savez(folder / "weights.npz", **weights)
    (folder / "steps.yaml").write_text("- op: scale\n  factor: 0.0625\n")
    (folder / "labels.txt").write_text("\n".join("0123456789") + "\n")
    np.save(folder / "golden.npy", data.test_x[:8])
    (folder / "card.md").write_text("# Digits\n\nReads digits.\n")
    np.savez(folder / "held-out.npz", x=data.test_x[:HELD_OUT_COUNT], y=data.test_y[:HELD_OUT_COUNT])
    return folder


@pytest.fixture
def workshop(parts: Path, running_hub: RunningHub) -> Workshop:
    model = f"digits-{secrets.token_hex(4)}"
    running_hub.create_model(model)
    return Workshop(parts, model)


@pytest.fixture
def approved(workshop: Workshop, skerry: Skerry, running_hub: RunningHub) -> Workshop:
    skerry.json("versions", "register", workshop.model, *workshop.parts(1))
    skerry.json("versions", "gate", workshop.model, "1", workshop.folder / "held-out.npz")
    running_hub.approve(workshop.model, 1)
    return workshop


def enrolled(skerry: Skerry, running_hub: RunningHub, ring: str, profile: str = "x86-gateway") -> str:
    name = f"pi-{secrets.token_hex(4)}"
    running_hub.enrol(
        name, skerry.json("devices", "token", "--device", name, "--tag", f"ring={ring}")["token"], profile
    )
    return name


def test_a_bundle_is_built_from_its_parts(stranger: Skerry, workshop: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "it.bundle"
    made = stranger.json(
        "versions",
        "build",
        workshop.model,
        *workshop.parts(3),
        "--lineage-parent",
        "2",
        "--memory-bytes",
        "1000",
        "-o",
        out,
    )
    manifest = read_manifest(out)
    assert (manifest.model, manifest.version, made["bytes"]) == (workshop.model, 3, out.stat().st_size)
    assert manifest.input.shape == [8, 8]
    assert manifest.output.shape == [10]
    assert manifest.lineage.parent_version == 2
    assert manifest.requirements.memory_bytes == 1000
    assert "FULLY_CONNECTED" in manifest.requirements.ops


def test_a_bundle_says_what_its_reference_data_was_like(stranger: Skerry, workshop: Workshop, tmp_path: Path) -> None:
    contract = tmp_path / "contract.yaml"
    contract.write_text("{kind: image, height: 8, width: 8, peak: 16}\n")
    words = ("versions", "build", workshop.model, *workshop.parts(1), "--reference", workshop.folder / "held-out.npz")
    stranger.json(*words, "--contract", contract, "-o", tmp_path / "it.bundle")
    manifest = read_manifest(tmp_path / "it.bundle")
    assert (manifest.reference, manifest.calibration) == ("reference.json", "calibration.json")
    assert {entry.role for entry in manifest.files} >= {"reference", "calibration"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("--reference", "weights.npz"), "cli.part"),
        (("--reference", "labels.txt"), "cli.part"),
        (("--contract", "steps.yaml"), "cli.part"),
        (("--extractor", "labels.txt"), "model."),
        (("--weights", "golden.npy"), "cli.part"),
        (("--golden", "labels.txt"), "cli.part"),
        (("--golden", "weights.npz"), "cli.part"),
        (("--golden", "absent.npy"), "cli.part"),
        (("--preprocessing", "labels.txt"), "cli.part"),
        (("--extractor", "absent.tflite"), "storage.missing"),
        (("--input", "x"), "cli.tensor"),
        (("--output", "y:float32:0"), "cli.tensor"),
        (("--lineage-data-sha256", "abc"), "id.sha256"),
    ],
)
def test_a_wrong_part_is_named(
    stranger: Skerry, workshop: Workshop, tmp_path: Path, change: tuple[str, str], code: str
) -> None:
    option, value = change
    given = workshop.folder / value if "." in value else value
    words = ("versions", "build", workshop.model, *workshop.parts(1), option, given, "-o", tmp_path / "it.bundle")
    said = stranger(*words, "--json")
    assert said.code in (2, 4)
    assert said.error["code"].startswith(code), said.err
    assert list(tmp_path.glob("*.bundle")) == []


def test_a_version_is_registered_once(skerry: Skerry, workshop: Workshop, tmp_path: Path) -> None:
    made = skerry.json("versions", "register", workshop.model, *workshop.parts(1))
    assert made["created"]
    bundle = tmp_path / "again.bundle"
    skerry.json("versions", "download", workshop.model, "1", "-o", bundle)
    assert not skerry.json("versions", "register", workshop.model, "--bundle", bundle)["created"]
    changed = skerry("versions", "register", workshop.model, *workshop.parts(1), "--tolerance", "0.1", "--json")
    assert (changed.code, changed.error["code"]) == (5, "version.exists")
    both = skerry("versions", "register", workshop.model, "--bundle", bundle, "--card", bundle, "--json")
    assert (both.code, both.error["code"]) == (2, "cli.contradiction")


def test_a_version_is_shown(skerry: Skerry, workshop: Workshop) -> None:
    skerry.json("versions", "register", workshop.model, *workshop.parts(1))
    said = skerry("versions", "show", workshop.model, "1")
    assert said.code == 0, said.err
    assert "image" not in said.out
    assert "x float32 8x8" in said.out
    assert skerry("versions", "show", workshop.model, "1", "--card").out.startswith("# Digits")
    assert "registered" in skerry("versions", "list", workshop.model).out
    assert workshop.model in skerry("models", "list").out
    assert skerry("models", "show", workshop.model).code == 0
    assert skerry("versions", "show", workshop.model, "2").code == 4


def test_the_gate_decides_and_says_why(skerry: Skerry, workshop: Workshop, tmp_path: Path) -> None:
    skerry.json("versions", "register", workshop.model, *workshop.parts(1))
    passed = skerry.json("versions", "gate", workshop.model, "1", workshop.folder / "held-out.npz")
    assert passed["passed"]
    policy = tmp_path / "gate.yaml"
    policy.write_text("checks:\n  - {metric: accuracy, op: '>=', value: 1.0}\n")
    assert skerry("models", "update", workshop.model, "--gate", policy, "--probation", "5m").code == 0
    failed = skerry("versions", "gate", workshop.model, "1", parse_sha256(passed["dataset_sha256"]))
    assert failed.code == 5
    assert "accuracy" in failed.out
    assert "did not pass" in failed.err
    assert "failed" in skerry("versions", "show", workshop.model, "1").out
    assert skerry("versions", "gate", workshop.model, "1", "absent.npz", "--json").error["code"] == "cli.file"
    assert skerry("models", "update", workshop.model, "--json").error["code"] == "cli.nothing"


def test_versions_are_compared(skerry: Skerry, workshop: Workshop) -> None:
    for version in (1, 2):
        words = ("--lineage-parent", "1") if version == 2 else ()
        skerry.json("versions", "register", workshop.model, *workshop.parts(version), *words)
    said = skerry("versions", "compare", workshop.model, "1", "2")
    assert said.code == 0, said.err
    assert "parent_version" in said.out
    assert skerry.json("versions", "lineage", workshop.model, "2")["ancestors"] == [{"version": 1, "registered": True}]
    assert "led to" in skerry("versions", "lineage", workshop.model, "1").out


def test_only_an_approved_version_is_promoted(skerry: Skerry, workshop: Workshop, running_hub: RunningHub) -> None:
    skerry.json("versions", "register", workshop.model, *workshop.parts(1))
    early = skerry("versions", "promote", workshop.model, "1", "--json")
    assert (early.code, early.error["code"]) == (5, "alias.not_approved")
    skerry.json("versions", "gate", workshop.model, "1", workshop.folder / "held-out.npz")
    running_hub.approve(workshop.model, 1)
    assert skerry("versions", "promote", workshop.model, "1", "--reason", "good").code == 0
    assert "good" in skerry("models", "alias", workshop.model, "production").out
    assert skerry("models", "alias", workshop.model, "canary", "1").code == 0
    assert skerry("models", "alias", workshop.model, "canary", "--remove").code == 0
    assert "production" in skerry("models", "show", workshop.model).out


def test_a_withdrawn_version_is_never_deployed(skerry: Skerry, approved: Workshop) -> None:
    assert skerry("versions", "withdraw", approved.model, "1", "--json", stdin="").error["code"] == "cli.not_confirmed"
    assert skerry("versions", "withdraw", approved.model, "1", "--yes").code == 0
    said = skerry("deploy", approved.model, "1", "--all", "--json")
    assert (said.code, said.error["code"]) == (5, "deployment.withdrawn")


def test_a_dry_run_changes_nothing(skerry: Skerry, approved: Workshop, running_hub: RunningHub) -> None:
    ring = secrets.token_hex(4)
    enrolled(skerry, running_hub, ring)
    said = skerry("deploy", approved.model, "1", "--filter", f"tag.ring=={ring}", "--dry-run")
    assert "would deploy version 1" in said.out
    assert "1 device" in said.out
    assert approved.model not in {item["model"] for item in skerry.json("deployments", "list")}


def test_a_deployment_is_followed(skerry: Skerry, approved: Workshop, running_hub: RunningHub) -> None:
    ring = secrets.token_hex(4)
    device = enrolled(skerry, running_hub, ring)
    skerry.json("versions", "promote", approved.model, "1")
    words = ("deploy", approved.model, "production", "-f", f"tag.ring=={ring}", "--note", "now")
    deployment = skerry.json(*words)["deployment_id"]
    assert deployment in skerry("deployments", "list").out
    assert "pending" in skerry("deployments", "show", deployment).out
    assert skerry.json("deployments", "devices", deployment)[0]["device_id"] == device
    waited = skerry("deployments", "wait", deployment, "--timeout", "0s", "--json")
    assert (waited.code, waited.error["code"]) == (7, "cli.wait_timeout")
    assert skerry("deployments", "cancel", deployment, "--yes").code == 0
    assert "cancelled" in skerry("deployments", "list").out
    assert skerry("deployments", "wait", deployment).code == 0


def test_devices_that_cannot_take_it_are_named(skerry: Skerry, workshop: Workshop, running_hub: RunningHub) -> None:
    ring = secrets.token_hex(4)
    device = enrolled(skerry, running_hub, ring, "camera-armv7")
    skerry.json("versions", "register", workshop.model, *workshop.parts(1), "--memory-bytes", str(1 << 30))
    skerry.json("versions", "gate", workshop.model, "1", workshop.folder / "held-out.npz")
    running_hub.approve(workshop.model, 1)
    said = skerry("deploy", workshop.model, "1", "--filter", f"tag.ring=={ring}", "--dry-run")
    assert said.code == 0, said.err
    assert device in said.out
    assert "profile.memory" in said.out


@pytest.mark.parametrize("target", [(), ("--all", "--filter", "id==x")])
def test_where_to_deploy_is_said_exactly_once(skerry: Skerry, target: tuple[str, ...]) -> None:
    said = skerry("deploy", "digits", "1", *target, "--json")
    assert (said.code, said.error["code"]) == (2, "cli.target")


def test_an_unknown_alias_is_named(skerry: Skerry, workshop: Workshop) -> None:
    said = skerry("deploy", workshop.model, "canary", "--all", "--json")
    assert (said.code, said.error["code"]) == (4, "cli.unknown_alias")


def test_the_status_shows_the_fleet(skerry: Skerry, running_hub: RunningHub) -> None:
    enrolled(skerry, running_hub, "any")
    found = skerry.json("status")
    assert found["devices"]["never_seen"] >= 1
    said = skerry("status")
    assert "x86-gateway" in said.out
    looks = skerry("status", "--watch", "--interval", "0.1", "--for", "1s", "--json").out.splitlines()
    assert len(looks) > 1
    assert all(json.loads(look)["devices"]["total"] >= 1 for look in looks)
    both = skerry("status", "--watch", "--fail-on-unhealthy", "--json")
    assert (both.code, both.error["code"]) == (2, "cli.contradiction")


def test_garbage_collection_only_says_what_would_go(skerry: Skerry) -> None:
    assert skerry.json("gc")["dry_run"]
    assert "Would remove" in skerry("gc").out


def test_files_are_read_within_bounds(stranger: Skerry, workshop: Workshop, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    durable.write_file(card, b"x" * (1 << 20))
    said = stranger("versions", "build", workshop.model, *workshop.parts(1), "--card", card, "--json")
    assert (said.code, said.error["code"]) == (2, "storage.too_large")
