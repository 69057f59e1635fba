"""What a run may still move, by its own budget and by each device's. Pure: standings in, who can be asked out.

Rules: nobody is asked whose next task, with its answer, would take the device or the run over its budget; what is out
already is reserved in full; when even the cheapest quorum cannot be paid, the run ends (`federated.budget`). Counted
are weights and updates, without the messages around them, from the run's beginning, restarts included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hub.federated.definition import RunDefinition
from hub.federated.selection import OVER_SELECTION_PERCENT, Candidate, quarantined
from hub.federated.standing import Roster, Standing
from hub.federated.traffic import cost_of
from shared.errors import Conflict
from shared.federated.codec import encoded_bytes
from shared.federated.secagg.fixed import words
from shared.federated.secagg.graph import peers_of

__all__ = ["Spending", "device_bytes"]

_PEER_DOWN_BYTES, _PEER_UP_BYTES, _ADVERT_BYTES = 1000, 250, 700  # of secure aggregation: keys, certificates, shares


def device_bytes(definition: RunDefinition, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Bytes down and up of one device in one round, without the messages around them."""
    training, total = definition.training, sum(sizes)
    if definition.privacy.secure_aggregation:
        peers = peers_of(-(-definition.rounds.goal * OVER_SELECTION_PERCENT // 100))
        return 4 * total + peers * _PEER_DOWN_BYTES, 4 * words(total) + peers * _PEER_UP_BYTES + _ADVERT_BYTES
    return 4 * total, encoded_bytes(sizes, training.scheme, training.keep)


class Spending:
    """The budget of one run over its roster."""

    def __init__(self, definition: RunDefinition, sizes: tuple[int, ...], roster: Roster) -> None:
        self._budget = definition.budget
        self._least_samples = definition.training.min_samples
        self._each = sum(device_bytes(definition, sizes))
        self._roster = roster

    def fitting(self, device_ids: Iterable[str], pending: Collection[str] = ()) -> list[str]:
        """Those of the devices that can be asked, the cheapest first while it lasts, sorted. pending: are asked."""
        if not self._limited:
            return sorted(device_ids)
        bytes_left, cost_left = self._left(pending)
        found = []
        for standing in sorted(map(self._roster.of, device_ids), key=lambda one: (one.cost_per_mib, one.device_id)):
            price = cost_of(self._each, standing.cost_per_mib)
            if self._has_room(standing) and bytes_left >= self._each and cost_left >= price:
                bytes_left, cost_left = bytes_left - self._each, cost_left - price
                found.append(standing.device_id)
        return sorted(found)

    def chosen(self, picked: Sequence[str], candidates: Sequence[Candidate], least: int) -> list[str]:
        """Those that were picked and can be paid; if those are too few, the cheapest of all that can."""
        paid = self.fitting(picked)
        if len(paid) >= least or not self._limited:
            return paid
        return self.fitting(self._able(candidates))[: max(least, len(picked))]

    def free(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates whose own budget has room for one more round."""
        return [one for one in candidates if self._has_room(self._roster.of(one.device_id))]

    def over(self, least: int) -> bool:
        """Whether so many devices could take part, but for the budget."""
        able = self._able(self._roster.candidates())
        return self._limited and len(able) >= least > len(self.fitting(able))

    def out_of_budget(self) -> Conflict:
        """Why no further round is made."""
        down, up = self._moved()
        return Conflict(
            "federated.budget",
            f"The run's budget does not pay for another round; {down + up} bytes were moved.",
            hint="Raise `budget`, choose other devices, or train in fewer rounds or with a smaller training.scheme.",
            detail={"bytes_down": down, "bytes_up": up},
        )

    @property
    def _limited(self) -> bool:
        budget = self._budget
        return not (budget.device_bytes is None and budget.bytes is None and budget.cost is None)

    def _able(self, candidates: Iterable[Candidate]) -> list[str]:
        return [one.device_id for one in candidates if one.samples >= self._least_samples and not quarantined(one)]

    def _has_room(self, standing: Standing) -> bool:
        limit = self._budget.device_bytes
        return limit is None or standing.bytes_down + standing.bytes_up + self._each <= limit

    def _moved(self) -> tuple[int, int]:
        standings = self._roster.all()
        return sum(one.bytes_down for one in standings), sum(one.bytes_up for one in standings)

    def _left(self, pending: Collection[str]) -> tuple[float, float]:
        """Bytes and cost that are left, with what is out reserved."""
        reserved = [self._roster.of(device_id) for device_id in pending]
        moved = sum(self._moved()) + self._each * len(reserved)
        paid = sum(cost_of(one.bytes_down + one.bytes_up, one.cost_per_mib) for one in self._roster.all())
        paid += sum(cost_of(self._each, one.cost_per_mib) for one in reserved)
        bytes_left = float("inf") if self._budget.bytes is None else self._budget.bytes - moved
        return bytes_left, float("inf") if self._budget.cost is None else self._budget.cost - paid
