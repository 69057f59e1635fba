"""What a signature changes is shown completely, and a release that adds more than one bundle is never signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from hub.trust import metadata
from hub.trust.difference import changes, check_only_adds
from shared.errors import InvalidInput, Untrusted

NOW_S = 1_800_000_000.0
YEAR_S = 365 * 86_400.0
ONE, TWO = ("1" * 64, 100), ("2" * 64, 200)


def _first() -> bytes:
    return metadata.build_release(None, "digits", 1, *ONE, expires_s=NOW_S + YEAR_S)


def _second(expires_s: float = NOW_S + YEAR_S) -> bytes:
    return metadata.build_release(_first(), "digits", 2, *TWO, expires_s=expires_s)


def _edited(**changes: Any) -> bytes:
    document = json.loads(_second())
    document["signed"].update(changes)
    return json.dumps(document).encode()


def test_the_next_release_with_one_more_bundle_may_be_signed() -> None:
    check_only_adds(None, _first(), "digits", 1, ONE, NOW_S)
    check_only_adds(_first(), _second(), "digits", 2, TWO, NOW_S)


def test_signatures_that_are_there_already_change_nothing() -> None:
    signed = metadata.sign(_second(), CryptoSigner.generate_ed25519())
    check_only_adds(metadata.sign(_first(), CryptoSigner.generate_ed25519()), signed, "digits", 2, TWO, NOW_S)


@pytest.mark.parametrize(
    ("version", "bundle"), [(2, ("3" * 64, 200)), (2, ("2" * 64, 201)), (3, TWO), (1, ONE)], ids=str
)
def test_another_version_digest_or_length_is_not_signed(version: int, bundle: tuple[str, int]) -> None:
    with pytest.raises(Untrusted) as caught:
        check_only_adds(_first(), _second(), "digits", version, bundle, NOW_S)
    assert caught.value.code == "sign.unexpected_content"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": 1},
        {"targets": {}},
        {"x-extra": True},
        {"spec_version": "1.0.0"},
        {"delegations": {"keys": {}, "roles": []}},
    ],
    ids=str,
)
def test_anything_else_that_differs_is_not_signed(change: dict[str, Any]) -> None:
    with pytest.raises((Untrusted, InvalidInput)):
        check_only_adds(_first(), _edited(**change), "digits", 2, TWO, NOW_S)


def test_a_changed_bundle_of_an_older_version_is_not_signed() -> None:
    found = metadata.parse(_second(), Targets)
    found.signed.targets["digits/1.bundle"].length = 101
    with pytest.raises(Untrusted) as caught:
        check_only_adds(_first(), found.to_bytes(), "digits", 2, TWO, NOW_S)
    assert "digits/1.bundle" in str(caught.value)


@pytest.mark.parametrize("lifetime_s", [-1.0, 3600.0, 3 * YEAR_S])
def test_an_odd_expiry_is_not_signed(lifetime_s: float) -> None:
    with pytest.raises(Untrusted) as caught:
        check_only_adds(_first(), _second(NOW_S + lifetime_s), "digits", 2, TWO, NOW_S)
    assert caught.value.code == "sign.odd_expiry"


def test_changed_keys_and_thresholds_are_shown() -> None:
    keys = [CryptoSigner.generate_ed25519().public_key for _ in range(4)]
    online = CryptoSigner.generate_ed25519().public_key
    old = metadata.Quorum(tuple(keys[:3]), 2)
    root = metadata.build_root(old, old, online, version=1, expires_s=NOW_S)
    new = metadata.Quorum((keys[0], keys[1], keys[3]), 1)
    text = "\n".join(changes(root, metadata.revise_root(root, root=new, expires_s=NOW_S)))
    assert "changed  roles / root / threshold: 2 -> 1" in text
    assert f"added    roles / root / keyids: {keys[3].keyid}" in text
    assert f"removed  roles / root / keyids: {keys[2].keyid}" in text
    assert "changed  version: 1 -> 2" in text
    assert "roles / targets" not in text


def test_new_and_changed_reviewers_are_shown_by_role() -> None:
    keys = [CryptoSigner.generate_ed25519().public_key for _ in range(3)]
    pair = metadata.Quorum(tuple(keys[:2]), 2)
    old = metadata.build_targets({"skerry/x.json": b"x"}, {"digits": pair}, version=1, expires_s=NOW_S)
    models = {"digits": metadata.Quorum(tuple(keys[:2]), 1), "fashion": metadata.Quorum((keys[2],), 1)}
    text = "\n".join(changes(old, metadata.revise_targets(old, models=models, expires_s=NOW_S)))
    assert "changed  delegations / roles / model-digits / threshold: 2 -> 1" in text
    assert "added    delegations / roles / model-fashion" in text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(_JSON, _JSON)
def test_no_difference_is_ever_silent(one: Any, other: Any) -> None:
    old, new = _edited(**{"x-field": one}), _edited(**{"x-field": other})
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (changes(old, new) == []) == same
