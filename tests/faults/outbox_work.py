"""The outbox under cuts: nothing that was promised is lost, no number is used twice, and the sequence has no hole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.outbox.outbox import Outbox
from shared.clock import SystemClock
from shared.wire.up import Dropped, Envelope, Event, decode_body, decode_envelope
from tests.faults.facts import Facts
from tests.faults.life import Broken
from tests.faults.marks import mark

__all__ = ["OutboxScenario"]

_LIMIT_BYTES = 16 * 1024
_ROUNDS = 14
_CONFIRMED = (2, _ROUNDS - 1)
_ALL = 1 << 30


def _outbox(facts: Facts, root: Path) -> Outbox:
    return Outbox(root / "outbox.db", device_id=facts.device_id, limit_bytes=_LIMIT_BYTES, clock=SystemClock())


def _covered(envelopes: Sequence[Envelope]) -> dict[int, str]:
    """What stands for each number: an event's message, or that it was dropped."""
    found: dict[int, str] = {}
    for envelope in envelopes:
        body = decode_body(envelope)
        if isinstance(body, Dropped):
            if body.count != envelope.seq - envelope.first_seq + 1:
                raise Broken(f"{body.count} dropped messages for {envelope.first_seq} to {envelope.seq}")
            found |= dict.fromkeys(range(envelope.first_seq, envelope.seq + 1), "dropped")
        elif isinstance(body, Event):
            found[envelope.seq] = body.message
    return found


class OutboxScenario:
    """Puts, confirmations and drops. Marks: `put SEQ TEXT` and `confirmed SEQ`, each when the call returned."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        outbox = _outbox(facts, root)
        await outbox.start()
        epoch = outbox.state.epoch
        mark(root, f"epoch {epoch}")
        for round_ in range(_ROUNDS):
            for part in range(3):
                text = f"{round_}.{part} " + "x" * 1200
                seq = await outbox.put(Event(code="fault.test", message=text[:500]))
                mark(root, f"put {seq} {text[:8]}")
            if round_ in _CONFIRMED:
                seq = outbox.state.next_seq - 4
                await outbox.confirm(epoch, seq)
                mark(root, f"confirmed {seq}")
        await outbox.close()

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        """A database is read through recovery only."""

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        outbox = _outbox(facts, root)
        await outbox.start()
        try:
            await self._judge(outbox, [text.split(" ", 2) for text in marks])
            seq = await outbox.put(Event(code="fault.test", message="after"))
            if seq != outbox.state.next_seq - 1:
                raise Broken("the next number is not the next")
            if not await outbox.confirm(outbox.state.epoch, seq) or outbox.state.pending_count:
                raise Broken("a confirmation does not free the outbox")
        finally:
            await outbox.close()

    async def _judge(self, outbox: Outbox, marks: Sequence[Sequence[str]]) -> None:
        state = outbox.state
        pending = await outbox.pending(0, count=100_000, limit_bytes=_ALL)
        held = _covered([decode_envelope(message.data) for message in pending])
        if sorted(held) != list(range(state.watermark + 1, state.next_seq)):
            raise Broken(f"holes: {sorted(held)} between {state.watermark} and {state.next_seq}")
        for words in marks:
            match words:
                case ["epoch", epoch] if epoch != state.epoch:
                    raise Broken(f"a new epoch {state.epoch} in place of {epoch}")
                case ["confirmed", seq] if int(seq) > state.watermark:
                    raise Broken(f"the confirmation of {seq} is forgotten; the watermark is {state.watermark}")
                case ["put", seq, text] if int(seq) > state.watermark:
                    if held.get(int(seq), "") != "dropped" and not held.get(int(seq), "").startswith(text):
                        raise Broken(f"message {seq} was promised and is {held.get(int(seq))!r:.40}")
