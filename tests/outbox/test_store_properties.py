"""The outbox under any sequence of writes, confirmations and reopenings: ordered, bounded, without a hole."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.outbox.rows import Item
from agent.outbox.store import MIN_LIMIT_BYTES, OutboxStore
from shared.wire.up import Dropped, Envelope, decode_body

EPOCH = "0" * 15 + "1"
KINDS = st.sampled_from(["heartbeat", "inventory", "event", "install"])
SIZES = st.integers(min_value=50, max_value=MIN_LIMIT_BYTES // 4)


class OutboxMachine(RuleBasedStateMachine):
    """Writes, confirms and reopens a real file and compares with a list of what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox.db"
        self.store = self.open()
        self.kinds: dict[int, str] = {}
        self.confirmed = 0

    def open(self) -> OutboxStore:
        return OutboxStore(self.path, limit_bytes=MIN_LIMIT_BYTES, new_epoch=EPOCH)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(batch=st.lists(st.tuples(KINDS, SIZES), min_size=1, max_size=6))
    def write(self, batch: list[tuple[str, int]]) -> None:
        items = [Item(kind=kind, created_s=1.0, body=bytes(size)) for kind, size in batch]
        with self.store.transaction():
            numbers = self.store.add(items)
        assert numbers == list(range(len(self.kinds) + 1, len(self.kinds) + 1 + len(batch)))
        self.kinds.update(zip(numbers, (kind for kind, _ in batch), strict=True))

    @precondition(lambda self: self.kinds)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(min_value=0, max_value=len(self.kinds)))
        with self.store.transaction():
            moved = self.store.confirm(EPOCH, seq)
        assert moved == (seq > self.confirmed)
        self.confirmed = max(self.confirmed, seq)

    @rule()
    def reopen(self) -> None:
        before = self.store.state
        self.store.close()
        self.store = self.open()
        assert self.store.state == before

    @invariant()
    def holds_everything_unconfirmed_in_order_and_within_the_bound(self) -> None:
        rows = self.store.read(0, count=-1, limit_bytes=None)
        assert self.store.state.pending_bytes <= MIN_LIMIT_BYTES
        assert self.store.state.pending_count == len(rows)
        expected = self.confirmed + 1
        kept: list[str] = []
        gone: list[str] = []
        for row in rows:
            assert row.first_seq <= expected <= row.seq
            covered = [self.kinds[seq] for seq in range(row.first_seq, row.seq + 1)]
            if row.kind == "dropped":
                body = decode_body(
                    Envelope(device_id="d", epoch=EPOCH, **{n: getattr(row, n) for n in row.__struct_fields__})
                )
                assert isinstance(body, Dropped)
                assert body.count == len(covered)
                assert body.kinds == {kind: covered.count(kind) for kind in covered}
                gone += covered
            else:
                assert [row.kind] == covered
                kept.append(row.kind)
            expected = row.seq + 1
        assert expected == self.store.state.next_seq
        assert not any(a.kind == b.kind == "dropped" for a, b in itertools.pairwise(rows))


OutboxMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_outbox_is_ordered_bounded_and_without_a_hole = OutboxMachine.TestCase
