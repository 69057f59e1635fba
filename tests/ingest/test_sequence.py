"""The sequencing rules, first by name and then for any network that hypothesis can think of."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ingest.sequence import Position, sequence
from shared.limits import MAX_SEQ

A, B, C = "a" * 16, "b" * 16, "c" * 16


@dataclass(frozen=True)
class Message:
    epoch: str
    first_seq: int
    seq: int


def one(epoch: str, seq: int) -> Message:
    return Message(epoch, seq, seq)


def taken(position: Position, messages: list[Message], past: frozenset[str] = frozenset()) -> list[Message]:
    return [item.message for item in sequence(position, past, messages).accepted]


def test_messages_are_applied_in_sequence_whatever_the_order_of_arrival() -> None:
    result = sequence(Position(A, 4), (), [one(A, 7), one(A, 5), one(A, 6)])
    assert [item.message.seq for item in result.accepted] == [5, 6, 7]
    assert result.position == result.answer == Position(A, 7)


def test_duplicates_are_ignored_and_still_answered() -> None:
    result = sequence(Position(A, 4), (), [one(A, 3), one(A, 4)])
    assert result.accepted == ()
    assert (result.duplicates, result.answer) == (2, Position(A, 4))


def test_nothing_beyond_a_gap_is_applied() -> None:
    result = sequence(Position(A, 4), (), [one(A, 5), one(A, 7), one(A, 8)])
    assert (result.position.watermark, result.gaps) == (5, 2)


def test_a_dropped_range_counts_only_what_had_not_arrived() -> None:
    result = sequence(Position(A, 4), (), [Message(A, 3, 9)])
    assert [item.new_count for item in result.accepted] == [5]
    assert result.position == Position(A, 9)


def test_messages_that_arrive_beside_their_own_dropped_range_are_applied_first() -> None:
    result = sequence(Position(A, 4), (), [Message(A, 5, 7), one(A, 6), one(A, 5), one(A, 7)])
    assert [(item.message.first_seq, item.new_count) for item in result.accepted] == [(5, 1), (6, 1), (7, 1)]


def test_a_first_contact_starts_at_one() -> None:
    assert taken(Position(), [one(A, 2)]) == []
    assert taken(Position(), [one(A, 1)]) == [one(A, 1)]


def test_an_unknown_epoch_is_not_a_start_without_its_first_message() -> None:
    result = sequence(Position(A, 9), (), [one(B, 2)])
    assert result.position == Position(A, 9)
    assert result.answer == Position(B, 0)


def test_a_new_epoch_retires_the_old_one_after_its_last_messages() -> None:
    result = sequence(Position(A, 9), (), [one(B, 1), one(A, 10), one(B, 2)])
    assert [item.message for item in result.accepted] == [one(A, 10), one(B, 1), one(B, 2)]
    assert result.position == result.answer == Position(B, 2)
    assert result.retired == (Position(A, 10),)


def test_a_replayed_past_epoch_is_never_a_new_start() -> None:
    result = sequence(Position(B, 2), {A}, [one(A, 1), one(A, 2), one(B, 3)])
    assert [item.message for item in result.accepted] == [one(B, 3)]
    assert (result.stale, result.retired) == (2, ())


def test_a_device_that_speaks_in_a_past_epoch_is_told_to_start_another() -> None:
    result = sequence(Position(B, 2), {A}, [one(A, 7)])
    assert (result.position, result.answer) == (Position(B, 2), Position(A, MAX_SEQ))


def test_two_new_epochs_in_one_batch_are_taken_in_order_of_arrival() -> None:
    result = sequence(Position(A, 1), (), [one(B, 1), one(C, 1), one(B, 2)])
    assert result.position == Position(C, 1)
    assert result.retired == (Position(A, 1), Position(B, 2))


@st.composite
def _epoch_runs(draw: st.DrawFn) -> list[int]:
    return draw(st.lists(st.integers(min_value=1, max_value=25), min_size=1, max_size=3))


@settings(max_examples=300, deadline=None)
@given(lengths=_epoch_runs(), data=st.data())
def test_any_loss_duplication_and_disorder_ends_with_each_message_applied_once(
    lengths: list[int], data: st.DataObject
) -> None:
    position, past, applied = Position(), set[str](), list[Message]()
    wire: list[Message] = []  # everything that was ever sent may be delivered again, at any time

    def deliver(batch: list[Message]) -> Position:
        nonlocal position
        result = sequence(position, past, batch)
        position = result.position
        past.update(left.epoch for left in result.retired)
        applied.extend(item.message for item in result.accepted)
        return result.answer

    sent: list[Message] = []
    for number, length in enumerate(lengths):
        outbox = [one(f"{number:016x}", seq) for seq in range(1, length + 1)]
        sent += outbox
        wire += outbox
        for _ in range(data.draw(st.integers(0, 4))):
            window = outbox[: data.draw(st.integers(0, length))]
            arrived = [m for m in window if data.draw(st.booleans())]
            replayed = data.draw(st.lists(st.sampled_from(wire), max_size=10))
            deliver(data.draw(st.permutations(arrived + [m for m in replayed if m.epoch <= outbox[0].epoch])))
        while outbox:  # go-back-N until all is confirmed
            answer = deliver(outbox[: data.draw(st.integers(1, 8))])
            assert answer.epoch == outbox[0].epoch
            outbox = [m for m in outbox if m.seq > answer.watermark]
    assert applied == sent


@settings(max_examples=200, deadline=None)
@given(
    ranges=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), max_size=40),
    cuts=st.lists(st.integers(1, 10), min_size=1, max_size=10),
)
def test_every_sequence_number_is_counted_exactly_once_even_with_overlapping_ranges(
    ranges: list[tuple[int, int]], cuts: list[int]
) -> None:
    messages = [Message(A, first, first + width) for first, width in ranges]
    position, counted = Position(A, 0), 0
    while messages:
        size = cuts[len(messages) % len(cuts)]
        result = sequence(position, (), messages[:size])
        counted += sum(item.new_count for item in result.accepted)
        assert len(result.accepted) + result.duplicates + result.gaps + result.stale == len(messages[:size])
        position, messages = result.position, messages[size:]
    assert counted == position.watermark
