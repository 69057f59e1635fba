"""A head of the device's own serves only where it belongs, and never at the price of a prediction."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.inference.host import ModelHost
from agent.ota.installer import InstallStatus
from agent.training.heads import PersonalHeads
from agent.training.personal import PersonalHead, choose, write_personal
from shared.errors import SkerryError
from tests.models import load_digits, unpacked_digits

SHA = "a" * 64


class Device:
    """One model, its folder for heads, and what is installed."""

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.folder = folder
        self.installed = [InstallStatus(model="digits", state="committed", active_version=1, bundle_sha256=SHA)]
        self.host = ModelHost()
        unpacked_digits(folder / "v1", 1)
        self.host.swap("digits", self.host.load("digits", folder / "v1"))
        self.events: list[Any] = []
        self.heads = PersonalHeads(folder, folder, self.host, self, self.events.append, enabled=enabled)
        self.own = self.says()

    def status(self) -> list[InstallStatus]:
        return self.installed

    def resting(self) -> bool:
        return True

    def says(self) -> int:
        return int(self.host.predict("digits", load_digits().test_x[:1]).argmax())

    def keep(self, label: int, **more: Any) -> None:
        """A head that answers `label` to everything."""
        vector = np.zeros(650, np.float32)
        vector[label] = 50.0
        fields: dict[str, Any] = {
            "model": "digits", "version": 1, "bundle_sha256": SHA, "run": "f-000000000001", "round_no": 1,
            "accuracy": 0.9, "bundle_accuracy": 0.5, "held_out": 40, "serves": True, "epoch": "",
            "weights": vector.tobytes(),
        }  # fmt: skip
        write_personal(self.folder, PersonalHead(**(fields | more)))

    @property
    def kept(self) -> bool:
        return (self.folder / "personal-digits").exists()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_head_that_belongs_here_serves_and_another_takes_its_place(device: Device) -> None:
    for label in (3, 4):
        device.keep(label)
        device.heads.look()
        assert device.says() == label
        assert device.heads.serves("digits")
    device.keep(5, serves=False)
    device.heads.look()
    assert device.says() == device.own
    assert device.kept  # beside, for another day


@pytest.mark.parametrize(
    "wrong",
    [
        {"bundle_sha256": "b" * 64}, {"version": 2}, {"epoch": "before the erasure"}, {"weights": bytes(4 * 649)},
        {"weights": np.full(650, np.nan, np.float32).tobytes()},
    ],
)  # fmt: skip
def test_what_does_not_belong_here_is_removed_and_never_serves(device: Device, wrong: dict[str, Any]) -> None:
    device.keep(3, **wrong)
    device.heads.look()
    assert device.says() == device.own
    assert not device.kept
    assert not device.heads.serves("digits")


def test_a_damaged_file_is_none(device: Device) -> None:
    device.keep(3)
    file = device.folder / "personal-digits"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    device.heads.look()
    assert device.says() == device.own
    assert not device.kept


def test_another_version_begins_with_its_own_head(device: Device, tmp_path: Path) -> None:
    device.keep(3)
    device.heads.look()
    unpacked_digits(tmp_path / "v2", 2)
    device.host.swap("digits", device.host.load("digits", tmp_path / "v2"))
    device.installed = [InstallStatus(model="digits", state="committed", active_version=2, bundle_sha256="c" * 64)]
    assert not device.heads.serves("digits")
    device.heads.look()
    assert not device.kept


def test_an_owner_who_wants_none_gets_none(tmp_path: Path) -> None:
    device = Device(tmp_path, enabled=False)
    device.keep(3)
    device.heads.look()
    assert device.says() == device.own
    assert not device.kept


def test_no_prediction_fails_or_mixes_heads_while_they_are_exchanged(device: Device) -> None:
    over, found, failures = threading.Event(), set(), []

    def predict() -> None:
        while not over.is_set():
            try:
                found.add(device.says())
            except Exception as error:  # noqa: BLE001 - collected
                failures.append(error)

    thread = threading.Thread(target=predict)
    thread.start()
    for number in range(100):
        device.keep(3 if number % 2 else 4)
        device.heads.look()
    over.set()
    thread.join()
    assert failures == []
    assert found <= {device.own, 3, 4}


def test_weights_that_the_model_does_not_take_leave_its_own(device: Device) -> None:
    handle = device.host.current("digits")
    with pytest.raises(SkerryError):
        handle.use_head({"w": np.zeros((2, 2), np.float32), "b": np.zeros(10, np.float32)})
    assert device.says() == device.own
    assert not handle.personal


@pytest.mark.parametrize(
    ("serves", "own", "bundle", "held_out", "expected"),
    [
        (False, 0.9, 0.9, 100, False), (False, 0.91, 0.9, 100, False), (False, 0.92, 0.9, 100, True),
        (True, 0.9, 0.9, 100, True), (True, 0.89, 0.9, 100, False), (False, 1.0, 0.0, 29, False),
        (True, 1.0, 0.0, 29, False),
    ],
)  # fmt: skip
def test_a_head_serves_from_a_margin_on_and_until_it_is_worse(
    serves: bool, own: float, bundle: float, held_out: int, expected: bool
) -> None:
    chosen = choose(serves=serves, own=own, bundle=bundle, held_out=held_out, min_samples=30, margin=0.02)
    assert chosen is expected
