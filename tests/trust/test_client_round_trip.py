"""python-tuf's own client against the repository: what is approved arrives, what is not does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, parse_assignment_keys
from tests.trust.client import Client
from tests.trust_kit import TrustKit


def test_an_approved_bundle_reaches_a_client_over_http(kit: TrustKit, tmp_path: Path) -> None:
    kit.create_model("digits")
    kit.approve("digits", 1, b"the bundle")
    with kit.serve() as url:
        assert Client(tmp_path / "c", url, kit.root).download("digits/1.bundle") == b"the bundle"
    assert kit.registry.approvals == [("digits", 1)]


def test_the_assignment_keys_reach_a_client_over_http(kit: TrustKit, tmp_path: Path) -> None:
    with kit.serve() as url:
        data = Client(tmp_path / "c", url, kit.root).download(ASSIGNMENT_KEYS_PATH)
    assert parse_assignment_keys(data).keys() == {kit.repository.online_keys().assignment.keyid}


@pytest.mark.parametrize("signatures", [0, 1])
def test_a_release_below_its_threshold_is_invisible_to_clients(kit: TrustKit, tmp_path: Path, signatures: int) -> None:
    kit.create_model("digits")
    kit.approve("digits", 1, b"one")
    kit.approve("digits", 2, b"two", signatures=signatures)
    with kit.serve() as url:
        client = Client(tmp_path / "c", url, kit.root)
        assert client.knows("digits/1.bundle")
        assert not client.knows("digits/2.bundle")
    assert kit.registry.approvals == [("digits", 1)]
    assert not kit.repository.is_approved("digits", 2)
