"""The hub tells its runs the authority that its devices' certificates are of, and devices accept it."""

from __future__ import annotations

from pathlib import Path

from agent.training.secure import SecureSession
from hub.federated.secure import Aggregation
from hub.pki.authority import new_key
from hub.pki.store import Pki
from tests.federated.secure_kit import SESSION
from tests.hub_kit import data_hub


def test_devices_with_certificates_of_the_hub_know_each_other_by_the_authority_that_its_runs_are_told(
    tmp_path: Path,
) -> None:
    with data_hub(tmp_path, trust=False) as (hub, clock):
        authority = hub.federated_loop._stage.places.device_ca
        pki = Pki.load(hub.settings)
        now_s = clock.now()
    sums = Aggregation(SESSION, authority)
    sessions = {}
    for name in ("pi-1", "pi-2", "pi-3"):
        key = new_key()
        issued = pki.device_ca.issue_client(key.public_key(), name, now_s=now_s, lifetime_s=86_400.0)
        sessions[name] = SecureSession(name, key, issued.pem.encode())
        sums.advert(name, sessions[name].answer(sums.open()))
    for name, roster in sums.rosters().items():
        sums.shares(name, sessions[name].answer(roster))
        assert len(roster) < 3000  # two neighbours: about a thousand bytes for each
