"""Runs through everything that is real: `skerry-hub serve` with its broker, the worker, Flower, devices over MQTT.

One run that is made by the command line meets a device that declines, one that is revoked in the middle, and the hub
killed with -9 in mid-run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml
from sqlalchemy import delete

from hub.pki.authority import key_pem, new_key
from hub.store import registry, schema
from hub.store.database import Database
from hub.store.registry import Status
from tests.cli.rig import Skerry
from tests.e2e.fleet import HubFolder, until
from tests.federated.mqtt_devices import Device, Plan
from tests.hub_kit import csr_pem
from tests.models import digits_bundle, digits_model
from tests.ports import free_port

RUN = """\
model: digits
rounds: {count: 8, goal: 2, quorum: 2, deadline_s: 60, wait_s: 100}
training: {min_samples: 10}
strategy: {name: fedavg}
"""
BEHAVIOURS = {"d-1": "joins", "d-2": "joins", "d-3": "joins", "d-4": "declines"}


class World:
    """A hub folder with version 1 of digits approved, and four devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = HubFolder(folder)
        with (self.hub.data / "hub.yaml").open("a") as settings:
            settings.write(f"federated: {{port: {free_port()}}}\n")
        self.mqtt_port = int(yaml.safe_load((self.hub.data / "hub.yaml").read_text())["mqtt_port"])
        self.database = Database(f"sqlite:///{self.hub.data / 'hub.db'}")
        self.devices: list[Device] = []
        self.digest = ""

    def set_up(self, client: httpx.Client) -> None:
        path = self.folder / "digits-1.bundle"
        self.digest = digits_bundle(path, 1).sha256
        client.post("/v1/models", json={"name": "digits"}).raise_for_status()
        client.put("/v1/models/digits/versions", content=path.read_bytes()).raise_for_status()
        for step in (Status.GATED, Status.APPROVED):  # as its gate and its reviewers would
            with self.database.write() as connection:
                registry.set_status(connection, registry.get_version(connection, "digits", 1), step, 1.0)
        self.devices = [self._enrol(client, name, behaviour) for name, behaviour in BEHAVIOURS.items()]

    def _enrol(self, client: httpx.Client, name: str, behaviour: str) -> Device:
        token = client.post("/v1/enrolment-tokens", json={"device_id": name}).raise_for_status().json()["token"]
        key = new_key()
        body = {"token": token, "csr_pem": csr_pem(key), "profile": "x86-gateway", "device_id": name}
        answer = client.post("/v1/device/enrol", json=body).raise_for_status().json()
        key_file, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        key_file.write_bytes(key_pem(key))
        certificate.write_text(answer["certificate_pem"])
        return Device(
            device_id=name, key=str(key_file), certificate=str(certificate), samples=300, behaviour=behaviour
        )

    @contextmanager
    def devices_there(self) -> Iterator[None]:
        """The devices, as a process of their own that is killed at the end."""
        weights = digits_model(1).weights
        plan = Plan(
            folder=str(self.folder), ca=str(self.hub.facts["ca_file"]), host="127.0.0.1",
            port=self.mqtt_port, model="digits", version=1, bundle_sha256=self.digest,
            sizes=tuple(weights[name].size for name in sorted(weights)), devices=self.devices,
        )  # fmt: skip
        command = [sys.executable, "-m", "tests.federated.mqtt_devices", msgspec.json.encode(plan).decode()]
        with (self.folder / "devices.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def skerry(self) -> Skerry:
        """The administrator's command line."""
        token = Path(self.hub.facts["admin_token_file"]).read_text().strip()
        environ = {"SKERRY_URL": self.hub.facts["url"], "SKERRY_TOKEN": token, "SKERRY_CA": self.hub.facts["ca_file"]}
        return Skerry(self.folder / "home", environ)

    def shown(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.skerry().json("federated", "show", run_id, "--answers")
        return found

    def forget_lease(self) -> None:
        """As if the killed hub's lease had run out, which takes half a minute."""
        with self.database.write() as connection:
            connection.execute(delete(schema.leases))

    def offers(self) -> list[dict[str, Any]]:
        file = self.folder / "offers"
        return [msgspec.json.decode(line) for line in file.read_bytes().splitlines()] if file.exists() else []


@pytest.mark.slow
def test_a_run_by_mqtt_survives_a_decline_a_revocation_and_the_hub_killed_in_mid_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        run_id, revoked_after = _first_half(world)
        world.forget_lease()
        _second_half(world, run_id, revoked_after)
    finally:
        world.database.close()


def _first_half(world: World) -> tuple[str, int]:
    """Until the hub is killed after a few rounds; the run, and the rounds that there were when d-3 was revoked."""
    file = world.folder / "run.yaml"
    file.write_text(RUN)
    with world.hub.serving(), world.hub.client() as client:
        world.set_up(client)
        skerry = world.skerry()
        with world.devices_there():
            until(
                lambda: skerry.json("federated", "run", file, "--dry-run")["forecast"]["devices"] == len(BEHAVIOURS),
                "the devices are not known",
            )
            run_id = skerry.json("federated", "run", file)["run"]["run_id"]
            until(lambda: world.shown(run_id)["round_no"] >= 2, "no round is complete")
            client.post("/v1/devices/d-3/revoke", json={"reason": "stolen"}).raise_for_status()
            revoked_after = len(world.shown(run_id)["history"])
            until(lambda: world.shown(run_id)["round_no"] >= 4, "no round is complete without the revoked device")
    return str(run_id), revoked_after


def _second_half(world: World, run_id: str, revoked_after: int) -> None:
    with world.hub.serving(), world.devices_there():
        skerry = world.skerry()
        before = world.shown(run_id)
        assert before["state"] == "running"
        said = skerry("federated", "watch", run_id, "--timeout", "2m")
        assert said.code == 0, said.out + said.err + world.hub.log.read_text()[-3000:]
        run = world.shown(run_id)
    complete = [made for made in run["history"] if not made["abandoned"]]
    assert [made["round_no"] for made in complete] == list(range(1, 9))
    assert [made for made in run["history"] if made["attempt"] <= before["attempts"]] == before["history"]
    late = [made["devices"] for made in run["history"][revoked_after + 1 :]]
    assert all(fate.get("d-3") != "admitted" for fate in late)
    assert all(made["devices"].get("d-4") != "admitted" for made in run["history"])
    assert complete[-1]["metrics"]["held_out_accuracy"] == pytest.approx(0.9)
    assert run["bytes_up"] > 8 * 2 * 650
    assert run["evaluation"]["whole"]["accuracy"] == pytest.approx(0.9)
    assert (run["result"]["version"], run["result"]["code"]) == (2, "federated.no_dataset")
    assert {one["device_id"] for one in run["answers"] if one["state"] == "declined"} == {"d-4"}
    first = next(offer for offer in world.offers() if offer["device_id"] == "d-1")
    assert (first["run"], first["bundle_sha256"]) == (run_id, world.digest)
    # It said that it wants to be left alone for an hour, and that holds after the hub was started anew.
    assert len([offer for offer in world.offers() if offer["device_id"] == "d-4"]) == 1
