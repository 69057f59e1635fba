"""What an agent keeps on its disk, kept in memory: the outbox with its numbers, the desired state, the identity.

Rules: the same promises as on a device (numbers without holes, a full outbox leaves tombstones, only the hub's
confirmation frees, a number that was never made begins a new epoch), less the disk: a simulated crash keeps what a
power cut would have left there. So the agent's own link runs on it as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

import msgspec

from agent.identity.store import Credentials, Identity
from agent.outbox.dropping import DROP_ORDER, TOMBSTONE, Tombstone, merge
from agent.outbox.outbox import Message
from agent.outbox.rows import Row, State
from shared.clock import Clock
from shared.errors import Untrusted
from shared.wire.down import DesiredState, decode_desired
from shared.wire.up import BODIES, Dropped, Envelope, Event, encode_body, encode_envelope

__all__ = ["FixedIdentity", "MemoryDocuments", "MemoryOutbox"]

_KINDS = {body: kind for kind, body in BODIES.items()}
_ROW_BYTES = 64


class FixedIdentity:
    """An identity that does not change (the agent's seam `Identities`)."""

    def __init__(self, identity: Identity, credentials: Credentials) -> None:
        self._identity = identity
        self._credentials = credentials

    def load(self) -> Identity:
        """Who the device is."""
        return self._identity

    def credentials(self) -> Credentials:
        """Its files."""
        return self._credentials


class MemoryDocuments:
    """The newest desired state (the agent's seam `Documents`)."""

    def __init__(self, device_id: str) -> None:
        self._device_id = device_id
        self._data = b""
        self._current: DesiredState | None = None

    @property
    def current(self) -> DesiredState | None:
        """None when none has come."""
        return self._current

    def load(self) -> DesiredState | None:
        """What was kept."""
        return self._current

    def accept(self, data: bytes) -> DesiredState | None:
        """The document if it says something new; errors `wire.*`, `desired.other_device`."""
        if data == self._data:
            return None
        desired = decode_desired(data)
        if desired.device_id != self._device_id:
            raise Untrusted("desired.other_device", f"The desired state is for {desired.device_id}.")
        if self._current is not None and desired.revision < self._current.revision:
            return None
        self._current, self._data = desired, data
        return desired


class MemoryOutbox:
    """Messages until the hub confirms them (the agent's seam `Messages`). `new_epoch` gives 16 hex digits."""

    is_open = True

    def __init__(self, device_id: str, *, limit_bytes: int, clock: Clock, new_epoch: Callable[[], str]) -> None:
        self._device_id = device_id
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._new_epoch = new_epoch
        self._rows: deque[Row] = deque()
        self._state = State(epoch=new_epoch())
        self._listeners: list[Callable[[], None]] = []

    @property
    def state(self) -> State:
        """The counters."""
        return self._state

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def post(self, body: msgspec.Struct) -> None:
        """Keep a message and number it."""
        self._add(_KINDS[type(body)], encode_body(body))
        self._tell()

    async def pending(self, after_seq: int, *, count: int, limit_bytes: int) -> list[Message]:
        """The oldest messages above `after_seq`, within the bounds (one is always given if there is any)."""
        found: list[Message] = []
        total = 0
        for row in islice((row for row in self._rows if row.seq > after_seq), count):
            total += len(row.body)
            if found and total > limit_bytes:
                break
            found.append(Message(kind=row.kind, seq=row.seq, data=self._envelope(row)))
        return found

    async def confirm(self, epoch: str, seq: int) -> bool:
        """Forget what the hub has committed; False when the confirmation is old or about another epoch."""
        if epoch != self._state.epoch or seq <= self._state.watermark:
            return False
        if seq >= self._state.next_seq:
            await self.begin_epoch("outbox.went_back", f"The hub knows message {seq}, which was never made here.")
            return True
        while self._rows and self._rows[0].seq <= seq:
            self._count(self._rows.popleft(), -1)
        self._state = msgspec.structs.replace(self._state, watermark=seq)
        self._tell()
        return True

    async def begin_epoch(self, code: str, message: str) -> None:
        """Number what is pending anew; told as an event."""
        rows, self._rows = self._rows, deque()
        number = 0
        for row in rows:
            first, number = number + 1, number + 1 + row.seq - row.first_seq
            self._rows.append(msgspec.structs.replace(row, first_seq=first, seq=number))
        self._state = msgspec.structs.replace(self._state, epoch=self._new_epoch(), next_seq=number + 1, watermark=0)
        self.post(Event(code=code, severity="warning", message=message[:500]))

    def _envelope(self, row: Row) -> bytes:
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        return encode_envelope(Envelope(device_id=self._device_id, epoch=self._state.epoch, **fields))

    def _add(self, kind: str, body: bytes) -> None:
        seq = self._state.next_seq
        row = Row(first_seq=seq, seq=seq, kind=kind, created_s=max(0.0, self._clock.now()), body=body)
        self._rows.append(row)
        self._state = msgspec.structs.replace(self._state, next_seq=seq + 1)
        self._count(row, 1)
        while self._state.pending_bytes > self._limit_bytes and self._bury_one():
            pass

    def _bury_one(self) -> bool:
        """Replace the oldest message that may go by a tombstone; False when nothing may."""
        for kinds in DROP_ORDER:
            for place, row in enumerate(self._rows):
                if row.kind in kinds:
                    self._bury(place)
                    return True
        return False

    def _bury(self, place: int) -> None:
        row = self._rows[place]
        grave = Tombstone(first_seq=row.seq, seq=row.seq, dropped=Dropped(count=1, kinds={row.kind: 1}))
        before = place - 1 if place and self._rows[place - 1].kind == TOMBSTONE else place
        after = place + 1 if place + 1 < len(self._rows) and self._rows[place + 1].kind == TOMBSTONE else place
        gone = list(islice(self._rows, before, after + 1))
        whole = merge([grave if old is row else _tombstone(old) for old in gone])
        for old in gone:
            self._count(old, -1)
            del self._rows[before]
        made = Row(
            first_seq=whole.first_seq, seq=whole.seq, kind=TOMBSTONE, created_s=row.created_s,
            body=encode_body(whole.dropped),
        )  # fmt: skip
        self._rows.insert(before, made)
        self._count(made, 1)
        self._state = msgspec.structs.replace(self._state, dropped_count=self._state.dropped_count + 1)

    def _count(self, row: Row, sign: int) -> None:
        self._state = msgspec.structs.replace(
            self._state,
            pending_count=self._state.pending_count + sign,
            pending_bytes=self._state.pending_bytes + sign * (len(row.body) + _ROW_BYTES),
        )

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _tombstone(row: Row) -> Tombstone:
    return Tombstone(first_seq=row.first_seq, seq=row.seq, dropped=msgspec.msgpack.decode(row.body, type=Dropped))
