"""The devices of a run while it goes on: who is in the federation, with which key, and what was offered to them.

Rules: what the worker is told is what the database says, looked at again every few seconds and, for those who are to be
asked, at that moment; a device that was revoked is out at once, and nothing that was read before can bring it back
(one lock holds reading and telling together); a device that cannot take part now, or wants to be left alone, stays in
the federation without samples, so that nobody asks it and its open answer still counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from hub.federated.base import Base
from hub.federated.definition import RunDefinition
from hub.federated.membership import needs_of
from hub.federated.offers import Heard, OfferBook, Offered
from hub.federated.protocol import Declined, Enrol, FromHub, Participant, Remove
from hub.federated.spending import device_bytes
from hub.federated.stage import Stage
from hub.store import federated_devices
from hub.store.database import Connection
from hub.store.federated_devices import AnswerRow
from shared.wire.training import Promise, TrainingOffer, encode_offer

__all__ = ["Following", "Say"]

_OVERLAP_S = 60.0  # answers of several hubs may become visible in another order than they came
_LINGER_S = 60.0
_MESSAGE_BYTES = 4096  # what Flower's messages take besides weights and update
_REFRESH_S = 5.0


class Say(Protocol):
    """Where messages for the worker go (`hub.federated.runner.RunProcess`)."""

    def send(self, message: FromHub) -> None:
        """Tell the worker."""
        ...


class Following:
    """One run's devices. `remove` may be called from any thread, the rest from those of the run."""

    def __init__(self, stage: Stage, run_id: str, definition: RunDefinition, base: Base, address: str) -> None:
        self._stage = stage
        self._run_id = run_id
        self._definition = definition
        self._base = base
        self._address = address
        self._needs = needs_of(definition, base)
        self._lock = threading.Lock()
        self._told: dict[str, Participant] = {}
        self._book = OfferBook(float(definition.rounds.deadline_s))
        self._seen: dict[tuple[str, str, int], float] = {}
        self._since_s = 0.0
        self._next_s = 0.0

    def begin(self, since_s: float) -> list[Participant]:
        """Those with whom the worker begins; what devices said from `since_s` on still holds."""
        with self._lock, self._stage.db.read() as connection:
            self._since_s = since_s
            for answer in self._fresh(connection):
                self._book.hear(_heard(answer))
            self._told = {d: one for d, one in self._wanted(connection).items() if one.samples > 0}
            return list(self._told.values())

    def ask(self, round_no: int, device_ids: Sequence[str], worker: Say) -> None:
        """Offer a round to these devices, with the keys that they have at this moment."""
        now_s = self._stage.clock.now()
        with self._lock:
            with self._stage.db.read() as connection:
                keys = federated_devices.keys_of(connection, device_ids)
            self._renew(keys, worker)
            there = [device_id for device_id in device_ids if device_id in keys]
            offers, resting = self._book.ask(round_no, there, now_s)
            for device_id in [*resting, *(d for d in device_ids if d not in keys)]:
                worker.send(Declined(device_id=device_id))
        self._offer(offers)

    def look(self, worker: Say) -> None:
        """Take in what devices have said, who has come and who has gone; offer again what was not heard."""
        now_s = self._stage.clock.now()
        with self._lock:
            with self._stage.db.read() as connection:
                answers = self._fresh(connection)
                wanted = self._wanted(connection) if now_s >= self._next_s else None
                missing = [] if wanted is None else [d for d in self._told if d not in wanted]
                keys = federated_devices.keys_of(connection, missing)
            for answer in answers:
                if self._book.hear(_heard(answer)):
                    worker.send(Declined(device_id=answer.device_id))
            if wanted is not None:
                self._next_s = now_s + _REFRESH_S
                self._change(wanted, missing, keys.keys(), worker)
            for device_id in self._book.lost(now_s):
                worker.send(Declined(device_id=device_id))
            offers = self._book.again(now_s)
        self._offer(offers)

    def soon(self) -> None:
        """Somebody has come: look at all devices the next time."""
        self._next_s = 0.0

    def remove(self, device_id: str, worker: Say) -> None:
        """The device is out of the federation at once."""
        with self._lock:
            self._told.pop(device_id, None)
            self._book.forget(device_id)
            worker.send(Remove(device_id=device_id))

    # --- with the lock held -------------------------------------------------------------------------------------------
    def _wanted(self, connection: Connection) -> dict[str, Participant]:
        resting = self._book.resting(self._stage.clock.now())
        found: dict[str, Participant] = {}
        for judged in self._stage.members.judge(connection, self._definition, self._needs):
            one = judged.participant()
            if one is not None:
                rests = one.device_id in resting
                found[one.device_id] = msgspec.structs.replace(one, samples=0) if rests else one
        return found

    def _change(
        self, wanted: dict[str, Participant], missing: Iterable[str], active: Iterable[str], worker: Say
    ) -> None:
        still = set(active)
        for device_id in missing:
            if device_id in still:
                wanted[device_id] = msgspec.structs.replace(self._told[device_id], samples=0)  # the filter lets it go
            else:
                del self._told[device_id]
                self._book.forget(device_id)
                worker.send(Remove(device_id=device_id))
        news = [one for d, one in wanted.items() if one != self._told.get(d) and (one.samples or d in self._told)]
        self._enrol(news, worker)

    def _renew(self, keys: dict[str, bytes], worker: Say) -> None:
        """Devices whose certificate was renewed since they were last looked at come with their new key."""
        known = [(self._told[d], key) for d, key in keys.items() if d in self._told]
        news = [msgspec.structs.replace(one, public_key=key) for one, key in known if one.public_key != key]
        self._enrol(news, worker)

    def _enrol(self, news: list[Participant], worker: Say) -> None:
        if news:
            self._told.update((one.device_id, one) for one in news)
            worker.send(Enrol(participants=news))

    def _fresh(self, connection: Connection) -> list[AnswerRow]:
        """Answers that were not seen yet."""
        rows = federated_devices.answers_since(connection, self._run_id, self._since_s)
        fresh = [row for row in rows if (row.device_id, row.epoch, row.seq) not in self._seen]
        self._seen.update(((row.device_id, row.epoch, row.seq), row.received_s) for row in fresh)
        if fresh:
            self._since_s = max(self._since_s, fresh[-1].received_s - _OVERLAP_S)
            self._seen = {key: at_s for key, at_s in self._seen.items() if at_s >= self._since_s}
        return fresh

    # --- offers -------------------------------------------------------------------------------------------------------
    def _offer(self, offers: Iterable[Offered]) -> None:
        for offered in offers:
            self._stage.tell(offered.device_id, encode_offer(self._made(offered)))

    def _made(self, offered: Offered) -> TrainingOffer:
        definition, base = self._definition, self._base
        return TrainingOffer(
            device_id=offered.device_id,
            run=self._run_id,
            round_no=offered.round_no,
            model=base.model,
            version=base.version,
            bundle_sha256=base.bundle_sha256,
            address=self._address,
            valid_s=offered.valid_s,
            task_s=float(definition.rounds.deadline_s),
            linger_s=min(float(definition.rounds.deadline_s), _LINGER_S),
            bytes=sum(device_bytes(definition, base.sizes)) + _MESSAGE_BYTES,
            memory_bytes=self._needs.memory_bytes,
            min_samples=definition.training.min_samples,
            promise=_promise(definition),
        )


def _promise(definition: RunDefinition) -> Promise:
    privacy = definition.privacy
    noise = privacy.noise_multiplier if privacy.mode == "client" else 0.0
    clips = privacy.mode == "client" or (privacy.mode == "server" and privacy.secure_aggregation)
    clip = privacy.clip if clips and not privacy.adaptive else 0.0  # where the device clips, to a bound that stays
    return Promise(secure_aggregation=privacy.secure_aggregation, client_noise=noise, clip=clip)


def _heard(row: AnswerRow) -> Heard:
    return Heard(
        device_id=row.device_id, round_no=row.round_no, state=row.state, retry_s=row.retry_s, at_s=row.received_s
    )
