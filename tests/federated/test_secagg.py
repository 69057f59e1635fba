"""Secure aggregation: the sum is exact, the hub sees nothing else, and neither side can be talked into more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from shared.errors import SkerryError
from shared.federated.secagg import keys, shamir
from shared.federated.secagg.fixed import Scale, pack, unpack
from shared.federated.secagg.graph import Ring, threshold
from shared.federated.secagg.masks import add_masks
from shared.federated.stream import stream
from tests.federated.secure_kit import SCALE, SESSION, Troop

BYTES = st.binary(min_size=32, max_size=32)


def _seeded(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def _code(act: Callable[[], object]) -> str:
    with pytest.raises(SkerryError) as caught:
        act()
    return caught.value.code


# --- shares ---------------------------------------------------------------------------------------------------------
@given(BYTES, st.integers(1, 12), st.integers(0, 12), st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_any_threshold_of_shares_gives_the_secret_back(
    secret: bytes, need: int, more: int, lot: Any, seed: int
) -> None:
    points = lot.sample(range(1, 500), need + more)
    shares = shamir.split(secret, points, need, _seeded(seed))
    assert shamir.join({point: shares[point] for point in lot.sample(points, need)}, need) == secret


@given(BYTES, BYTES, st.integers(2, 10), st.integers(0, 2**32))
def test_fewer_shares_fit_every_secret(secret: bytes, other: bytes, need: int, seed: int) -> None:
    """Whatever one believes the secret to be, there is a last share that makes it so."""
    shares = shamir.split(secret, range(1, need + 1), need, _seeded(seed))
    known = {point: shares[point] for point in range(1, need)}
    zero = int.from_bytes(shamir.join({**known, need: bytes(33)}, need), "big")
    one = int.from_bytes(shamir.join({**known, need: (1).to_bytes(33, "big")}, need), "big")
    prime = 2**256 + 297
    step = pow((one - zero) % prime, -1, prime)
    last = (int.from_bytes(other, "big") - zero) * step % prime
    assert shamir.join({**known, need: last.to_bytes(33, "big")}, need) == other


@pytest.mark.parametrize(("points", "need"), [([1, 1], 2), ([0, 1], 2), ([1, 2], 3), ([1, 2], 0)])
def test_shares_that_could_not_be_joined_are_not_made(points: list[int], need: int) -> None:
    with pytest.raises(ValueError):
        shamir.split(bytes(32), points, need, _seeded(0))


def test_the_field_is_one() -> None:
    prime = 2**256 + 297
    assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29))


# --- numbers --------------------------------------------------------------------------------------------------------
@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 2**32)), min_size=1, max_size=8), st.booleans())
def test_the_weighted_mean_is_exact_to_one_rounding(devices: list[tuple[int, int]], towards_zero: bool) -> None:
    scale = Scale(reach=4.0, max_weight=100, devices=8, towards_zero=towards_zero)
    vectors = [np.random.default_rng(seed).uniform(-4, 4, 20).astype(np.float32) for _, seed in devices]
    packed = [pack(scale, v, w, True, {"loss": 1.5}) for v, (w, _) in zip(vectors, devices, strict=True)]
    total = unpack(scale, np.sum(packed, axis=0, dtype=np.uint32), 20, len(devices))
    weights = np.array([weight for weight, _ in devices], np.float64)
    mean = (weights[:, None] * np.array(vectors, np.float64)).sum(axis=0) / weights.sum()
    assert np.abs(total.mean - mean).max() <= scale.reach / scale.steps + 1e-6
    assert (total.weight, total.within, total.cut_off) == (weights.sum(), len(devices), 0)
    assert total.metrics == {"loss": pytest.approx(1.5, abs=16 / scale.steps)}


@given(st.integers(0, 2**32), st.floats(0.01, 10))
def test_rounding_never_makes_an_update_longer_than_its_clip(seed: int, norm: float) -> None:
    raw = np.random.default_rng(seed).normal(size=30)
    vector = (raw * (norm / np.linalg.norm(raw))).astype(np.float32)
    scale = Scale(reach=norm, max_weight=1, devices=1 << 23, towards_zero=True)  # 255 steps: as coarse as it gets
    total = unpack(scale, pack(scale, vector, 1, True, {}), 30, 1)
    assert np.linalg.norm(total.mean.astype(np.float64)) <= np.linalg.norm(vector.astype(np.float64)) * (1 + 1e-6)


def test_what_is_beyond_reach_is_cut_off_and_counted() -> None:
    vector = np.array([9.0, -9.0, 1.0], np.float32)
    total = unpack(SCALE, pack(SCALE, vector, 10, False, {}), 3, 1)
    np.testing.assert_allclose(total.mean, [4.0, -4.0, 1.0], atol=1e-3)
    assert (total.cut_off, total.within, total.metrics) == (1, 0, {})


def test_a_sum_that_no_honest_devices_make_is_refused() -> None:
    one = pack(SCALE, np.zeros(3, np.float32), 5, True, {})
    assert _code(lambda: unpack(SCALE, one, 3, 6)) == "secure.sum"  # six devices weigh at least 6
    assert _code(lambda: unpack(SCALE, one[:-1], 3, 1)) == "secure.sum"
    assert _code(lambda: Scale(reach=1.0, max_weight=2**20, devices=100).steps) == "secure.scale"


# --- masks ----------------------------------------------------------------------------------------------------------
@given(st.integers(0, 300), st.integers(0, 300), BYTES)
def test_a_stream_can_be_entered_anywhere(block: int, count: int, key: bytes) -> None:
    whole = stream(key, 16 * block + count)
    assert np.array_equal(stream(key, count, block), whole[16 * block :])


@given(st.integers(1, 70_000), st.lists(st.tuples(BYTES, st.booleans()), max_size=4), st.integers(0, 2**32))
@settings(max_examples=30)
def test_masks_come_off_again(size: int, masks: list[tuple[bytes, bool]], seed: int) -> None:
    original = np.random.default_rng(seed).integers(0, 2**32, size, np.uint32)
    masked = original.copy()
    add_masks(masked, masks)
    add_masks(masked, [(key, not plus) for key, plus in masks])
    assert np.array_equal(masked, original)


def test_both_devices_agree_on_a_mask_and_no_other_session_does() -> None:
    a, b = bytes(range(32)), bytes(range(32, 64))
    here = keys.mask_key(SESSION, a, keys.public_of(b))
    assert here == keys.mask_key(SESSION, b, keys.public_of(a))
    assert here != keys.mask_key(bytes(16), a, keys.public_of(b))


def _suspicion(data: bytes) -> float:
    """The p-value of a chi-squared test over the frequencies of bytes."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 255))


@pytest.mark.parametrize("seed", range(4))
def test_what_the_hub_sees_of_one_update_is_indistinguishable_from_random(seed: int) -> None:
    size = 20_000
    rng = np.random.default_rng(seed)
    packed = pack(SCALE, rng.normal(0, 0.1, size).astype(np.float32), 10, True, {})
    troop = Troop(4, rng.bytes)
    troop.adverts()
    troop.shares()
    masked = {}
    for device_id, payload in troop.hub.tasks(SCALE).items():
        session = troop.sessions[device_id]
        masked[device_id] = session.mask(session.accept(payload), packed)
    views = list(masked.values())
    assert all(1e-4 < _suspicion(view) < 1 - 1e-4 for view in views)
    plain = packed.tobytes()
    difference = np.frombuffer(views[0], "<u4") - np.frombuffer(views[1], "<u4")  # the same update under two masks
    assert 1e-4 < _suspicion(difference.tobytes()) < 1 - 1e-4
    correlation = np.corrcoef(np.frombuffer(views[0], "<u4").astype(float), packed.view(np.int32).astype(float))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(size)
    assert _suspicion(plain) < 1e-9  # the control: what is not masked is found at once
    almost = np.frombuffer(views[0], "<u4").copy()
    almost[: size // 4] = packed[: size // 4]
    assert _suspicion(almost.tobytes()) < 1e-9  # also when a quarter was not masked


# --- drop-outs --------------------------------------------------------------------------------------------------------
def _round(count: int, adverts: list[int], shares: list[int], inputs: list[int], reveals: list[int]) -> Troop:
    troop = Troop(count)
    names = [[troop.ids[number] for number in gone] for gone in (adverts, shares, inputs, reveals)]
    troop.adverts(names[0])
    troop.shares(names[0] + names[1])
    troop.inputs(names[0] + names[1] + names[2])
    troop.reveals(names[2] + names[3])
    return troop


@pytest.mark.parametrize(
    ("adverts", "shares", "inputs", "reveals"),
    [
        ([], [], [], []),
        ([0, 9], [], [], []),
        ([], [0, 9], [], []),
        ([], [], [0, 4, 9], []),
        ([], [], [], [0, 4, 9]),
        ([1], [2], [3], []),
        ([], [1], [2], [3]),
        ([0], [1], [2], [3]),
    ],
)
def test_the_sum_is_exact_whoever_drops_out_between_which_stages(
    adverts: list[int], shares: list[int], inputs: list[int], reveals: list[int]
) -> None:
    troop = _round(12, adverts, shares, inputs, reveals)
    assert troop.refused == {}
    assert troop.hub.readable()
    assert np.array_equal(troop.total(), troop.expected())
    assert len(troop.masked) == 12 - len(adverts) - len(shares) - len(inputs)


@given(st.integers(3, 9), st.data())
@settings(max_examples=20, deadline=None)
def test_any_drop_outs_down_to_the_threshold_are_survived(count: int, data: st.DataObject) -> None:
    spare = count - threshold(count)
    gone = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=spare))
    at = data.draw(st.integers(0, len(gone)))
    troop = _round(count, [], gone[:at], gone[at:], [])
    assert np.array_equal(troop.total(), troop.expected())


def test_many_devices_mask_with_some_and_drop_outs_are_survived() -> None:
    troop = _round(36, [5], [6], [7, 8, 9], [10])
    assert troop.refused == {}
    assert len(troop.hub._ring.neighbours("d-000")) < 34
    assert np.array_equal(troop.total(), troop.expected())


def test_below_the_threshold_nothing_is_read() -> None:
    troop = Troop(6)
    troop.adverts()
    troop.shares()
    troop.inputs(troop.ids[:2])
    assert _code(troop.hub.unmask) == "secure.few"
    troop = Troop(6)
    troop.adverts()
    troop.shares()
    troop.inputs()
    troop.reveals(troop.ids[:2])
    assert not troop.hub.readable()
    assert _code(troop.total) == "secure.unmask"


@given(st.sets(st.integers(0, 200), min_size=3, max_size=60))
@settings(max_examples=40)
def test_neighbours_are_mutual_and_enough(numbers: set[int]) -> None:
    ring = Ring(SESSION, {f"d-{n}": hashlib.sha256(bytes([n])).digest() for n in numbers})
    for device_id in ring.ids:
        near = ring.neighbours(device_id)
        assert all(device_id in ring.neighbours(other) for other in near)
        assert len(near) == len(ring.ids) - 1 if len(ring.ids) < 32 else len(near) >= 30
        assert 3 * ring.threshold(device_id) > 2 * (len(near) + 1)
