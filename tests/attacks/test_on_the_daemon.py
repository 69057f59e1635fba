"""The agent's whole process under attack: what a thief of the hub's keys puts into its desired state, and what serves.

The desired state comes from the file in which the daemon keeps the last one, the rest over the network.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from agent.paths import AgentPaths
from shared.wire.down import DesiredState
from tests.attacks.attacker import Attacker
from tests.attacks.conftest import Assign
from tests.attacks.victim import MODEL
from tests.daemon.device import RunningAgent, install_digits, running
from tests.models import load_digits
from tests.ota.conftest import bundle
from tests.ota.hub_sim import DEVICE, HubSim
from tests.trust_kit import TrustKit

PATIENCE_S = 90.0


@pytest.fixture
def paths(hub: HubSim) -> Iterator[AgentPaths]:
    """A device with version 1 committed; its folder has a short name, for the socket's sake."""
    with TemporaryDirectory(prefix="skerry-") as short:
        made = AgentPaths(Path(short) / "state")
        hub.enrol(made)
        install_digits(made)
        yield made


def wanted(paths: AgentPaths, *envelopes: bytes) -> None:
    """The hub's word, as the agent kept it."""
    desired = DesiredState(device_id=DEVICE, revision=1, assignments=list(envelopes))
    paths.desired.write_bytes(msgspec.msgpack.encode(desired))


def until(agent: RunningAgent, state: str) -> dict[str, Any]:
    """The model's status once it is in this state."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for found in agent.ask("/skerry/status")["models"]:
            if found["model"] == MODEL and found["state"] == state and found["assignment_counter"] == 2:
                status: dict[str, Any] = found
                return status
        time.sleep(0.1)
    raise AssertionError(agent.log())


@pytest.mark.parametrize("key", ["the hub's", "one reviewer's and the hub's"])
def test_arbitrary_installation_on_the_daemon(
    kit: TrustKit, paths: AgentPaths, attacker: Attacker, assign: Assign, key: str
) -> None:
    kit.approve(MODEL, 1, bundle(1))
    evil = attacker.evil_bundle(bundle(3))
    signers = [attacker.online, attacker.assigner, *([attacker.reviewer] if "reviewer" in key else [])]
    attacker.publish([(f"model-{MODEL}", attacker.release(3, evil, *signers))])
    wanted(paths, assign(3, bundle=evil))
    before = paths.model(MODEL).current.read_bytes()
    slots = sorted(path.name for path in paths.model(MODEL).slots.iterdir())
    with running(paths) as agent:
        status = until(agent, "rolled_back")
        assert (status["reason_code"], status["active_version"]) == ("release.unsigned", 1)
        right = sum(agent.predict(index) == int(load_digits().test_y[index]) for index in range(10))
        assert right >= 9
        assert agent.ask(f"/v2/models/{MODEL}")["versions"] == ["1"]
    assert paths.model(MODEL).current.read_bytes() == before
    assert sorted(path.name for path in paths.model(MODEL).slots.iterdir()) == slots


def test_an_honest_assignment_reaches_the_same_daemon(
    kit: TrustKit, paths: AgentPaths, attacker: Attacker, assign: Assign
) -> None:
    """So that the refusals above are not for another reason."""
    kit.approve(MODEL, 2, bundle(2))
    wanted(paths, assign(2))
    with running(paths) as agent:
        assert until(agent, "committed")["active_version"] == 2
