"""One run, from its first round (or a checkpoint) to its last; what both kinds of run have in common.

Rules: only complete rounds change the run, so what is killed at any moment goes on from the last of them with the same
weights, strategy memory, standings and seed, and asks the same devices; updates are added up in the order of the
devices' names, so that a synchronous run with the same answers gives the same bits; weights that are not finite end
the run and are kept nowhere; every wait has an end.
"""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.federated.admission import Admitted
from hub.federated.checkpoint import Checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.exchange import Exchange
from hub.federated.mechanism import Mechanism
from hub.federated.report import RoundReport
from hub.federated.spending import Spending
from hub.federated.standing import Roster
from hub.federated.surroundings import Step, Surroundings
from hub.federated.tasks import Engine
from shared import canonical
from shared.errors import Conflict, InvalidInput, Unavailable
from shared.federated.secagg.fixed import Total

__all__ = ["Run", "RunEnd", "definition_digest", "round_seed"]

Vector = NDArray[np.float32]


class RunEnd(StrEnum):
    """How a run ended that did not fail. SPENT: before its last round, because of a budget."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    SPENT = "spent"


class Run:
    """The state of a run. `checkpoint`: where it begins; one that is new has round 0 and the initial weights.

    Errors: `federated.checkpoint` when the checkpoint is of another run, or does not fit the model.
    """

    def __init__(
        self,
        definition: RunDefinition,
        sizes: tuple[int, ...],
        checkpoint: Checkpoint,
        engine: Engine,
        step: Step,
        around: Surroundings,
        authority: bytes = b"",
    ) -> None:
        if checkpoint.definition != definition_digest(definition) or checkpoint.weights.shape != (sum(sizes),):
            raise InvalidInput("federated.checkpoint", "The checkpoint is of another run, or of another model.")
        self.definition = definition
        self.run_id = checkpoint.run_id
        self.round_no = checkpoint.round_no
        self.weights = checkpoint.weights
        self.roster = Roster(checkpoint.standings)
        self.mechanism = Mechanism(definition, checkpoint.privacy, lambda: secrets.token_bytes(32))
        self.authority = authority
        self.spending = Spending(definition, sizes, self.roster)
        self.exchange = Exchange(definition, sizes, engine, self.roster, self.mechanism)
        self.around = around
        self.cancelled = False
        self._declined: dict[str, float] = {}
        self._seed = checkpoint.seed
        self._step = step
        self._patience = definition.rounds.patience
        self._alone_since: float | None = None
        step.restore(checkpoint.memory)

    def out_of_budget(self) -> Conflict:
        """Why it ended before its last round: privacy, or bytes (`federated.privacy_spent`, `federated.budget`)."""
        return self.spending.out_of_budget() if self.mechanism.affordable() else self.mechanism.out_of_budget()

    def spent(self) -> RunEnd:
        """The end of a run that cannot pay for another round; what made it fail where no round was complete."""
        if self.round_no:
            return RunEnd.SPENT
        raise self.out_of_budget()  # all of it went to rounds that did not count: there is no result

    def cancel(self) -> None:
        """End the run before its next round; its last checkpoint stays as it is."""
        self.cancelled = True

    def decline(self, device_id: str) -> None:
        """The device will not take part now; it is not asked again before another deadline has passed."""
        self.roster.of(device_id).declined += 1
        self._declined[device_id] = self.around.monotonic()

    def declined(self, since: float | None = None) -> set[str]:
        """The devices that declined since then (within the last deadline unless said)."""
        first = self.around.monotonic() - self.definition.rounds.deadline_s if since is None else since
        return {device_id for device_id, at in self._declined.items() if at >= first}

    def session(self) -> bytes:
        """A name that no attempt at a round had before."""
        return secrets.token_bytes(16)

    def seed(self, attempt: int) -> int:
        """The seed of the next round's selection."""
        return round_seed(self._seed, self.round_no + 1, attempt)

    def advance(self, updates: list[Admitted]) -> Vector:
        """The next weights; errors `federated.too_few`, `federated.diverged`. Nothing that a checkpoint holds changes
        but the strategy's memory and the next clip, so a round that fails here is left out as a whole."""
        before = self.mechanism.state
        ordered = self.mechanism.released(sorted(updates, key=lambda update: update.device_id))
        try:
            return self._stepped(ordered)
        except Conflict:
            self.mechanism.state = before
            raise

    def advance_by_sum(self, total: Total, devices: int) -> Vector:
        """The same from a sum of the updates of so many devices."""
        return self._stepped(self.mechanism.summed(total, devices))

    def _stepped(self, updates: list[Admitted]) -> Vector:
        with np.errstate(over="ignore", invalid="ignore"):
            weights = self._step.step(self.weights, updates, self.round_no + 1)
        if not np.isfinite(weights).all():
            raise Conflict(
                "federated.diverged",
                "Training diverged: a weight is not a finite number any more.",
                hint="Lower training.learning_rate or the strategy's learning_rate, and begin again.",
            )
        return weights

    def complete(self, weights: Vector, report: RoundReport) -> None:
        """The round counts: its weights are the run's, and it is kept."""
        self.weights = weights
        self.round_no += 1
        if self.definition.privacy.mode == "server":
            self.mechanism.pay()
        report = msgspec.structs.replace(report, privacy=self.mechanism.spent())
        self._patience = self.definition.rounds.patience
        self.heard()
        self.around.complete(report, self.checkpoint())

    def reserve(self) -> None:
        """Pay for tasks whose answers themselves show something of their devices, as far as the noise lets them.

        Kept before they go out: a run that is killed meanwhile has paid for what the hub may have seen.
        """
        if self.definition.privacy.mode == "client":
            self.mechanism.pay()
            self.around.reserved(self.checkpoint())

    def abandon(self, report: RoundReport) -> None:
        """The round does not count; error `federated.abandoned` when that was once too often."""
        self.around.abandoned(report)
        self.heard()
        self._patience -= 1
        if self._patience < 1:
            raise Conflict(
                "federated.abandoned",
                f"{self.definition.rounds.patience} rounds in a row were abandoned, the last for {report.abandoned}.",
                hint="The reports of these rounds say what each device answered.",
            )

    def heard(self) -> None:
        """Devices take part again."""
        self._alone_since = None

    def alone(self) -> None:
        """Too few devices take part now; error `federated.no_devices` when that lasts."""
        now = self.around.monotonic()
        if self._alone_since is None:
            self._alone_since = now
        wait_s = self.definition.rounds.wait_s
        if now - self._alone_since >= wait_s:
            raise Unavailable(
                "federated.no_devices",
                f"For {wait_s} s fewer devices took part than rounds.quorum ({self.definition.quorum}) wants.",
                hint="Choose more devices with `filter`, lower rounds.quorum, or raise rounds.wait_s.",
                retriable=True,
            )
        self.around.pause()

    def checkpoint(self) -> Checkpoint:
        """The run as it stands."""
        return Checkpoint(
            run_id=self.run_id,
            definition=definition_digest(self.definition),
            seed=self._seed,
            round_no=self.round_no,
            weights=self.weights,
            memory=self._step.memory(),
            standings=self.roster.standings(),
            privacy=self.mechanism.state,
        )


def definition_digest(definition: RunDefinition) -> str:
    """SHA-256 of the definition, by which a checkpoint knows its run."""
    return hashlib.sha256(canonical.dumps(definition)).hexdigest()


def round_seed(seed: int, round_no: int, attempt: int) -> int:
    """The seed of one attempt at one round."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{round_no}:{attempt}".encode()).digest()[:7], "big")
