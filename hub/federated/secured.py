"""One round by secure aggregation: keys, shares, masked updates, and what opens their sum (`hub.federated.secure`).

Rules: who has not come when the round begins is not in it; each stage has a share of the deadline, and who misses one
is out from there on; training has what is left; a round whose sum cannot be opened is abandoned, and so is one with
fewer updates than the quorum, before anything of it is opened. The hub learns who took part, and the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from hub.federated.report import RoundReport
from hub.federated.rounds import Judgement
from hub.federated.run import Run
from hub.federated.secure import Aggregation
from shared.errors import Conflict, InvalidInput, SkerryError
from shared.federated.secagg.fixed import Scale, Total, unpack, words
from shared.federated.secagg.graph import threshold

__all__ = ["SecureRound"]

_STAGES = 4  # a stage beside training may take a quarter of the deadline, if nobody answers
_GRACE_S = 2.0  # for the rest of a stage, once more than two thirds have answered; or three times what those took
_LATE = 12  # how long to wait for more than a quorum: a twelfth


class SecureRound:
    """One attempt at one round; error `federated.privacy` when the worker lacks what devices must see."""

    def __init__(self, run: Run, chosen: list[str]) -> None:
        if not run.authority:
            raise InvalidInput("federated.privacy", "The run's worker was not told the authority of the devices.")
        self._run = run
        self._asked = chosen
        self._hub = Aggregation(run.session(), run.authority)
        self._here: list[str] = []
        self._masked: list[str] = []
        self._lost: set[str] = set()
        self._excused: set[str] = set()
        self._rejected: dict[str, str] = {}
        self._scale: Scale | None = None
        self._total: Total | None = None
        self._failure = ""
        self._asked_at = self._start = run.around.monotonic()
        self._bytes = (run.exchange.bytes_down, run.exchange.bytes_up)
        for device_id in chosen:
            run.roster.of(device_id).asked += 1
        run.around.ask(run.round_no + 1, chosen)

    # --- the round ------------------------------------------------------------------------------------------------
    def gather(self) -> bool:
        """Wait until a quorum is connected, and a little for the others; False when it does not come."""
        run, rounds = self._run, self._run.definition.rounds
        enough_since: float | None = None
        while not run.cancelled:
            expected = self._expected()
            self._here = run.exchange.present(expected)
            now = run.around.monotonic()
            if len(self._here) >= run.definition.quorum:
                enough_since = now if enough_since is None else enough_since
                if len(self._here) == len(expected) or now - enough_since >= rounds.deadline_s / _LATE:
                    self._start = now
                    return True
            if now - self._start >= rounds.deadline_s or len(expected) < run.definition.quorum:
                break
            run.around.pause()
        run.exchange.fail(self._expected())
        return False

    def collect(self) -> Judgement:
        """All stages; `ABANDON` when the sum cannot be had."""
        run = self._run
        size = words(run.weights.size)
        try:
            self._stage(dict.fromkeys(self._here, self._hub.open()), self._hub.advert)
            self._stage(self._hub.rosters(), self._hub.shares)
            self._inputs(size)
            if run.cancelled:
                return Judgement.ABANDON
            if len(self._masked) < run.definition.quorum:
                raise Conflict("federated.quorum", "There are fewer updates than the quorum.")
            self._stage(self._hub.unmask(), self._hub.reveal, lambda: self._open(size))
            if self._total is None:
                raise Conflict("secure.unmask", "Too little was revealed for the sum.")
        except Conflict as error:
            self._failure = error.code
        except InvalidInput as error:
            if error.code != "secure.sum":
                raise
            self._failure = error.code
        return Judgement.ABANDON if self._failure else Judgement.CLOSE

    def end(self, verdict: Judgement) -> None:
        """Make the step from the sum, or abandon the round."""
        run = self._run
        for device_id in sorted(self._hub.liars):
            self._reject(device_id, "secure.share")
        missed = set(self._expected()) - set(self._masked) - self._rejected.keys() - self._excused
        run.exchange.fail(sorted(missed - self._lost))
        dropped = sorted(missed | self._lost)
        if verdict is Judgement.ABANDON or self._total is None:
            run.abandon(self._report(dropped, self._failure))
            return
        for device_id in set(self._masked) - set(self._rejected):
            run.exchange.accept(device_id)
        weights = run.advance_by_sum(self._total, len(self._masked))
        run.complete(weights, self._report(dropped))

    # --- stages -----------------------------------------------------------------------------------------------------
    def _stage(
        self,
        questions: Mapping[str, bytes],
        take: Callable[[str, bytes], None],
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Put a question to each device and take the answers, until all are there or the stage's time is over."""
        run = self._run
        left_s = run.definition.rounds.deadline_s / _STAGES
        began = run.around.monotonic()
        waiting = set(run.exchange.ask(questions, run.round_no + 1, left_s, began))
        few, hurried = len(waiting) - threshold(len(waiting)), False
        while waiting and not run.cancelled and not over():
            waiting -= self._harvest(take)
            elapsed = run.around.monotonic() - began
            if len(waiting) <= few and not hurried:
                left_s, hurried = min(left_s, elapsed + max(_GRACE_S, 3 * elapsed)), True
            if elapsed >= left_s:
                break
            if waiting:
                run.around.pause()
        run.exchange.give_up()
        over()

    def _inputs(self, size: int) -> None:
        """The masked updates, until all are there, the goal is, or there is no time left."""
        run, rounds = self._run, self._run.definition.rounds
        members = self._hub.members()
        known = [c.samples for c in run.roster.candidates() if c.device_id in members]
        most = round(run.definition.admission.examples_factor * median(known or [1]))  # what each says stays hidden
        scale = run.mechanism.scale(len(members), most, self._hub.least())
        self._scale = scale
        left_s = rounds.deadline_s * (1 - 1 / _STAGES / 2) - (run.around.monotonic() - self._start)
        began = run.around.monotonic()
        tasks = self._hub.tasks(scale)
        given = run.exchange.give_sealed(
            tasks, run.weights, run.round_no + 1, max(1.0, left_s), began, self._hub.least()
        )
        waiting = set(given)

        def take(device_id: str, answer: bytes) -> None:
            self._hub.masked(device_id, answer, size)
            self._masked.append(device_id)

        enough = max(rounds.goal, self._hub.least())
        while waiting and len(self._masked) < enough and not run.cancelled:
            waiting -= self._harvest(take)
            if run.around.monotonic() - began >= left_s:
                break
            if waiting:
                run.around.pause()
        run.exchange.give_up()
        if len(self._masked) >= rounds.goal:
            self._excused = waiting
        for device_id in [d for d in self._masked if run.roster.node(d) is None]:
            self._hub.forget(device_id)  # it was removed while the round went on
            self._masked.remove(device_id)

    def _harvest(self, take: Callable[[str, bytes], None]) -> set[str]:
        """Take what has come; those who have answered, or will not."""
        harvest = self._run.exchange.collect()
        for device_id, answer in harvest.sealed.items():
            try:
                take(device_id, answer)
            except SkerryError as error:
                self._reject(device_id, error.code)
        self._lost.update(harvest.lost)
        gone = {d for d in self._here if self._run.roster.node(d) is None}
        return {*harvest.sealed, *harvest.lost, *gone}

    def _open(self, size: int) -> bool:
        """Read the sum as soon as enough was revealed; a false share needs more of the others."""
        if self._total is not None or self._scale is None or not self._hub.readable():
            return self._total is not None
        try:
            total = self._hub.total(size)
        except Conflict:
            return False
        self._total = unpack(self._scale, total, self._run.weights.size, len(self._masked))
        return True

    def _reject(self, device_id: str, code: str) -> None:
        if device_id not in self._rejected:
            self._run.exchange.refuse(device_id)
            self._rejected[device_id] = code

    def _expected(self) -> list[str]:
        run = self._run
        gone = run.declined(self._asked_at) - set(self._here)
        return [d for d in self._asked if d not in gone and run.roster.node(d) is not None]

    def _report(self, dropped: list[str], abandoned: str = "") -> RoundReport:
        run = self._run
        return RoundReport(
            round_no=run.round_no + 1,
            asked=list(self._asked),
            joined=list(self._here),
            admitted=sorted(self._masked),
            rejected=dict(sorted(self._rejected.items())),
            dropped=dropped,
            metrics={} if self._total is None or abandoned else dict(self._total.metrics),
            bytes_down=run.exchange.bytes_down - self._bytes[0],
            bytes_up=run.exchange.bytes_up - self._bytes[1],
            seconds=round(run.around.monotonic() - self._start, 3),
            abandoned=abandoned,
        )
