"""Deltas made to do harm: each is refused by name, and never is more written than the bundle has or much reserved."""

from __future__ import annotations

import hashlib
import io
import resource
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import limits
from shared.delta.apply import apply_delta
from shared.delta.codec import compress
from shared.delta.format import HEAD_BYTES, OP_BYTES, Head, Kind, Op, Pair, pack_head, pack_op
from shared.errors import SkerryError
from tests.delta.bundles import Made, between

RESULT = b"new bundle " * 100
OLD = b"old bundle " * 100
PAIR = Pair(
    from_sha256=hashlib.sha256(OLD).hexdigest(),
    from_bytes=len(OLD),
    to_sha256=hashlib.sha256(RESULT).hexdigest(),
    to_bytes=len(RESULT),
)
PAYLOAD = compress(RESULT, 3)


class Memory:
    """An old bundle in memory that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.read_bytes = 0

    def read(self, offset: int, size: int) -> bytes:
        self.read_bytes += size
        return self._data[offset : offset + size]


def built(*ops: tuple[Op, bytes], pair: Pair = PAIR, count: int | None = None) -> bytes:
    head = pack_head(Head(pair, len(ops) if count is None else count))
    return head + b"".join(pack_op(op) + payload for op, payload in ops)


def literal(payload: bytes, size: int = len(RESULT)) -> tuple[Op, bytes]:
    return Op(Kind.LITERAL, 0, 0, size, len(payload)), payload


def refused(data: bytes, pair: Pair = PAIR, source: Memory | None = None) -> str:
    """The code; never are more bytes given out than the bundle has."""
    out = bytearray()
    with pytest.raises(SkerryError) as caught:
        apply_delta(io.BytesIO(data), source or Memory(OLD), out.extend, pair)
    assert len(out) <= pair.to_bytes
    assert caught.value.code.startswith("delta.")
    return caught.value.code


def windowed(data: bytes, window_log: int) -> bytes:
    """A frame of one raw block whose head asks for a window (RFC 8878, section 3.1.1)."""
    block = 1 | len(data) << 3
    head = bytes((0x40, (window_log - 10) << 3)) + (len(data) - 256).to_bytes(2, "little")
    return b"\x28\xb5\x2f\xfd" + head + block.to_bytes(3, "little") + data


@pytest.mark.parametrize("payload", [PAYLOAD, windowed(RESULT, 10)], ids=["ours", "by hand"])
def test_the_plain_one_is_good(payload: bytes) -> None:
    out = bytearray()
    apply_delta(io.BytesIO(built(literal(payload))), Memory(OLD), out.extend, PAIR)
    assert out == RESULT


def test_of_another_pair() -> None:
    good = built(literal(PAYLOAD))
    assert refused(good, replace(PAIR, from_sha256="0" * 64)) == "delta.wrong_pair"
    assert refused(good, replace(PAIR, to_sha256="0" * 64)) == "delta.wrong_pair"
    assert refused(good, replace(PAIR, to_bytes=5)) == "delta.wrong_pair"
    assert refused(good, source=Memory(OLD + b"!")) == "delta.wrong_pair"


def test_with_the_head_of_one_bundle_and_the_bytes_of_another() -> None:
    other = compress(RESULT[:-1] + b"!", 3)
    assert refused(built(literal(other))) == "delta.result_mismatch"
    copied = Op(Kind.COPY, 0, len(OLD), len(RESULT), 0)
    assert refused(built((copied, b""))) == "delta.result_mismatch"


def test_of_another_form() -> None:
    good = built(literal(PAYLOAD))
    assert refused(b"BSDIFF4" + good[7:]) == "delta.malformed"
    assert refused(good[:7] + b"\2" + good[8:]) == "delta.version"
    assert refused(b"") == "delta.truncated"
    assert refused(good + b"\0") == "delta.trailing"


def test_cut_anywhere() -> None:
    good = built(literal(PAYLOAD))
    assert {refused(good[:size]) for size in range(len(good))} == {"delta.truncated"}


@pytest.mark.parametrize("count", [0, 2, limits.MAX_DELTA_OPS_COUNT + 1, 2**32 - 1])
def test_with_another_number_of_operations(count: int) -> None:
    assert refused(built(literal(PAYLOAD), count=count)) in ("delta.malformed", "delta.truncated")


LIES = {
    "a result longer than the bundle": (Op(Kind.LITERAL, 0, 0, len(RESULT) + 1, len(PAYLOAD)), PAYLOAD),
    "a result shorter than its payload": (Op(Kind.LITERAL, 0, 0, len(RESULT) - 1, len(PAYLOAD)), PAYLOAD),
    "no result": (Op(Kind.LITERAL, 0, 0, 0, len(PAYLOAD)), PAYLOAD),
    "no payload": (Op(Kind.LITERAL, 0, 0, len(RESULT), 0), b""),
    "a payload longer than anything can be": (Op(Kind.LITERAL, 0, 0, len(RESULT), 2**32 - 1), PAYLOAD),
    "a copy with a payload": (Op(Kind.COPY, 0, len(RESULT), len(RESULT), len(PAYLOAD)), PAYLOAD),
    "a copy of another length": (Op(Kind.COPY, 0, 10, len(RESULT), 0), b""),
    "a copy from beyond the end": (Op(Kind.COPY, 1, len(OLD), len(RESULT), 0), b""),
    "a copy from far away": (Op(Kind.COPY, 2**63, len(OLD), len(RESULT), 0), b""),
    "a literal that reads": (Op(Kind.LITERAL, 0, 10, len(RESULT), len(PAYLOAD)), PAYLOAD),
    "a difference of two lengths": (Op(Kind.ADD, 0, 10, len(RESULT), len(PAYLOAD)), PAYLOAD),
    "planes of two lengths": (Op(Kind.PLANES, 0, 10, len(RESULT), len(PAYLOAD)), PAYLOAD),
    "a patch of nothing": (Op(Kind.PATCH, 0, 0, len(RESULT), len(PAYLOAD)), PAYLOAD),
    "no frame": literal(b"\0" * 50),
    "two frames": literal(PAYLOAD + PAYLOAD),
    "bytes behind the frame": literal(PAYLOAD + b"\0"),
    "half a frame": literal(PAYLOAD[: len(PAYLOAD) // 2]),
    "an absurd window": literal(windowed(RESULT, 26)),
    "a frame that hides its length": literal(zstandard.ZstdCompressor(write_content_size=False).compress(RESULT)),
    "a frame that says too much": literal(compress(RESULT + b"!", 3)),
    "a frame that says too little": literal(compress(RESULT[:-1], 3)),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_with(lie: str) -> None:
    assert refused(built(LIES[lie])) == "delta.malformed"


def test_an_unknown_kind_is_refused() -> None:
    good = built(literal(PAYLOAD))
    assert refused(good[:HEAD_BYTES] + b"\5" + good[HEAD_BYTES + 1 :]) == "delta.malformed"


def test_a_bomb_reserves_nothing() -> None:
    """A payload of some kilobytes that would become 256 MiB, under every length that it could claim."""
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(256 * limits.MIB))
    pair = replace(PAIR, to_bytes=limits.MAX_BUNDLE_BYTES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in (1, limits.MAX_DELTA_PART_BYTES, 256 * limits.MIB, limits.MAX_BUNDLE_BYTES):
        op = Op(Kind.LITERAL, 0, 0, size, len(bomb))
        assert refused(built((op, bomb), pair=pair), pair) == "delta.malformed"
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * limits.KIB < 32 * limits.MIB


def test_a_bundle_over_its_bound_is_refused_before_anything_is_read() -> None:
    pair = replace(PAIR, to_bytes=limits.MAX_BUNDLE_BYTES + 1)
    assert refused(built(literal(PAYLOAD), pair=pair), pair) == "delta.too_large"


def test_reading_the_old_bundle_over_and_over_is_refused() -> None:
    """Each operation gives one byte and reads megabytes for it."""
    old = bytes(limits.MAX_DELTA_SOURCE_BYTES)
    source = Memory(old)
    pair = Pair(from_sha256="1" * 64, from_bytes=len(old), to_sha256="2" * 64, to_bytes=4000)
    payload = compress(b"x", 3)
    op = Op(Kind.PATCH, 0, len(old), 1, len(payload))
    assert refused(built(*[(op, payload)] * 4000, pair=pair), pair, source) == "delta.malformed"
    assert source.read_bytes <= 6 * len(old)


# --- damage to real ones ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A delta with every kind of operation."""
    random = Random(1)
    old = {name: random.randbytes(2000) for name in ("model.tflite", "w.npy", "head.tflite", "labels.json")}
    near = bytes((byte + random.choice((0, 0, 0, 1))) % 256 for byte in old["model.tflite"])
    longer = old["w.npy"][:900] + b"!" * 600 + old["w.npy"][900:]
    new = {**old, "model.tflite": near, "w.npy": longer, "x.bin": b"x" * 9}
    return between(tmp_path_factory.mktemp("made"), old, new)


def right_or_refused(made: Made, data: bytes) -> None:
    """Damage is refused with a code, unless the result is the very bundle all the same."""
    out = bytearray()
    try:
        apply_delta(io.BytesIO(data), Memory(made.old.read_bytes()), out.extend, made.pair)
    except SkerryError as error:
        assert error.code.startswith("delta.")
        assert len(out) <= made.pair.to_bytes
    else:
        assert bytes(out) == made.result


def test_every_flipped_bit_is_refused_or_changes_nothing(made: Made) -> None:
    for position in range(len(made.data)):
        for bit in (0, 3, 7):
            data = bytearray(made.data)
            data[position] ^= 1 << bit
            right_or_refused(made, bytes(data))


Mutation = Callable[[bytes, Random], bytes]
MUTATIONS: dict[str, Mutation] = {
    "truncated": lambda data, random: data[: random.randrange(len(data))],
    "flipped": lambda data, random: bytes(byte ^ (random.random() < 0.01) << random.randrange(8) for byte in data),
    "zeros": lambda data, random: _put(data, random, bytes(random.randrange(1, 64))),
    "ones": lambda data, random: _put(data, random, b"\xff" * random.randrange(1, 64)),
    "noise": lambda data, random: _put(data, random, random.randbytes(random.randrange(1, 64))),
    "spliced": lambda data, random: data[: random.randrange(len(data))] + data[random.randrange(len(data)) :],
    "grown": lambda data, random: data + random.randbytes(random.randrange(1, 64)),
    "lengths": lambda data, random: _put(data, random, random.randbytes(OP_BYTES), HEAD_BYTES),
}


def _put(data: bytes, random: Random, what: bytes, at: int | None = None) -> bytes:
    start = random.randrange(len(data)) if at is None else at
    return (data[:start] + what + data[start + len(what) :])[: len(data)]


@pytest.mark.parametrize("kind", list(MUTATIONS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damage_is_refused_or_changes_nothing(made: Made, kind: str, seed: int) -> None:
    right_or_refused(made, MUTATIONS[kind](made.data, Random(seed)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.binary(max_size=60), max_size=4))
def test_anything_at_all_behind_a_good_head_is_refused(head: bytes, rest: list[bytes]) -> None:
    refused(pack_head(Head(PAIR, len(rest) or 1)) + b"".join(rest))
    refused(head)
