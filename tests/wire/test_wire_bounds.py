"""Bad messages are refused with a code, whatever is wrong with them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import limits
from shared.errors import InvalidInput, SkerryError, TooLarge
from shared.wire import down, training, up
from tests.wire.samples import ENVELOPE, EPOCH, MSGPACK


def altered(**changes: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.to_builtins(ENVELOPE, builtin_types=(bytes,)) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"device_id": "../etc"},
        {"device_id": "a.b"},
        {"device_id": "a" * 64},
        {"epoch": "xyz"},
        {"seq": 0},
        {"seq": 2**60},
        {"seq": 10},
        {"first_seq": 10},
        {"created_s": float("nan")},
        {"created_s": float("inf")},
        {"created_s": -1.0},
        {"kind": "shell"},
        {"body": "text"},
        {"body": None},
    ],
    ids=str,
)
def test_a_hostile_envelope_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        up.decode_envelope(altered(**changes))
    assert caught.value.code == "wire.malformed"


def test_an_oversized_message_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLarge) as caught:
        up.decode_envelope(b"\xc1" * (limits.MAX_MQTT_MESSAGE_BYTES + 1))
    assert caught.value.code == "wire.too_large"


def test_a_body_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput):
        up.decode_body(up.decode_envelope(altered(kind="install")))


def test_a_dropped_range_may_span_sequence_numbers() -> None:
    body = up.encode_body(up.Dropped(count=3))
    envelope = up.decode_envelope(altered(kind="dropped", first_seq=7, body=body))
    assert (envelope.first_seq, envelope.seq) == (7, 9)


@given(st.binary(max_size=300))
def test_random_bytes_give_a_coded_error_or_a_message(data: bytes) -> None:
    for decode in (up.decode_envelope, down.decode_desired, down.decode_watermark, training.decode_offer):
        try:
            decode(data)
        except SkerryError as error:
            assert error.code.startswith("wire.")


@given(st.sampled_from(sorted(MSGPACK)), st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_gives_a_coded_error_or_a_message(name: str, position: int, flip: int) -> None:
    data = bytearray(msgspec.msgpack.encode(MSGPACK[name]))
    data[position % len(data)] ^= flip
    try:
        up.decode_body(up.decode_envelope(bytes(data)))
    except SkerryError as error:
        assert error.code.startswith("wire.")


def test_a_watermark_round_trips() -> None:
    mark = down.Watermark(epoch=EPOCH, seq=12)
    assert down.decode_watermark(down.encode(mark)) == mark


def test_an_oversized_offer_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLarge) as caught:
        training.decode_offer(b"\xc1" * (limits.MAX_TRAINING_OFFER_BYTES + 1))
    assert caught.value.code == "wire.too_large"


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "../etc"},
        {"round_no": 0},
        {"valid_s": -1.0},
        {"task_s": float("nan")},
        {"promise": {"client_noise": -1}},
    ],
    ids=str,
)
def test_a_hostile_offer_is_refused(changes: dict[str, Any]) -> None:
    offer = msgspec.to_builtins(MSGPACK["offer"]) | changes
    with pytest.raises(InvalidInput) as caught:
        training.decode_offer(msgspec.msgpack.encode(offer))
    assert caught.value.code == "wire.malformed"
