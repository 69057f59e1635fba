"""Rounds in step: ask, give, collect, close; the next one begins with what this one made.

Rules: tasks go out when a quorum is connected, and to the rest as they come; the deadline runs from then on and is the
tasks' life; who answers later is counted and forgotten. A round for which nobody came was never begun: it costs waiting
time (`rounds.wait_s`), not patience.
"""

from __future__ import annotations

from hub.federated.admission import Admitted
from hub.federated.report import RoundReport, means
from hub.federated.rounds import Judgement, RoundCounts, judge_round, levelled, outliers
from hub.federated.run import Run, RunEnd
from hub.federated.secured import SecureRound
from hub.federated.selection import select
from shared.errors import Conflict

__all__ = ["run_rounds"]


def run_rounds(run: Run) -> RunEnd:
    """All rounds that are left; errors `federated.no_devices`, `federated.abandoned`, `federated.diverged`."""
    attempt = 0
    while run.round_no < run.definition.rounds.count:
        if run.cancelled:
            return RunEnd.CANCELLED
        done = run.round_no
        if not run.mechanism.affordable() or run.spending.over(run.definition.quorum):
            return run.spent()
        _attempt(run, attempt)
        attempt = 0 if run.round_no > done else attempt + 1
    return RunEnd.FINISHED


def _attempt(run: Run, attempt: int) -> None:
    definition = run.definition
    declined = run.declined()
    free = run.spending.free(c for c in run.roster.candidates() if c.device_id not in declined)
    picked = select(free, definition.rounds.goal, run.seed(attempt), definition.training.min_samples)
    chosen = run.spending.chosen(picked, free, definition.quorum)
    if len(chosen) < definition.quorum:
        run.alone()
        return
    round_: _Round | SecureRound = (SecureRound if definition.privacy.secure_aggregation else _Round)(run, chosen)
    if not round_.gather():
        if not run.cancelled:
            run.alone()
        return
    run.heard()
    run.reserve()
    verdict = round_.collect()
    if not run.cancelled:
        round_.end(verdict)


class _Round:
    """One round."""

    def __init__(self, run: Run, chosen: list[str]) -> None:
        self._run = run
        self._asked = chosen
        self._joined: set[str] = set()
        self._admitted: dict[str, Admitted] = {}
        self._rejected: dict[str, str] = {}
        self._lost: set[str] = set()
        self._late: list[str] = []
        self._asked_at = self._start = run.around.monotonic()
        self._bytes = (run.exchange.bytes_down, run.exchange.bytes_up)
        for device_id in chosen:
            run.roster.of(device_id).asked += 1
        run.around.ask(run.round_no + 1, chosen)

    def gather(self) -> bool:
        """Wait until a quorum is connected; False when it does not come within a deadline."""
        run, rounds = self._run, self._run.definition.rounds
        while not run.cancelled:
            if len(run.exchange.present(self._expected())) >= run.definition.quorum:
                self._start = run.around.monotonic()
                return True
            late = run.around.monotonic() - self._start >= rounds.deadline_s
            if late or len(self._expected()) < run.definition.quorum:
                break
            run.around.pause()
        run.exchange.fail(self._expected())
        return False

    def collect(self) -> Judgement:
        """Give tasks and take answers until the round is over."""
        run, rounds = self._run, self._run.definition.rounds
        while True:
            now = run.around.monotonic()
            elapsed = now - self._start
            left = rounds.deadline_s - elapsed
            if left > 0:
                missing = run.exchange.present(d for d in self._expected() if d not in self._joined)
                self._joined.update(run.exchange.give(missing, run.weights, run.round_no + 1, left, now))
            self._harvest()
            verdict = judge_round(self._counts(), rounds.goal, run.definition.quorum, elapsed, rounds.deadline_s)
            if run.cancelled or verdict is not Judgement.WAIT:
                self._late = run.exchange.give_up()
                return verdict
            run.around.pause()

    def end(self, verdict: Judgement) -> None:
        """Count what came, and make the step when there is enough."""
        run = self._run
        in_time = len(self._admitted) >= run.definition.rounds.goal
        absent = sorted(d for d in self._expected() if d not in self._joined)
        missed = [] if in_time else [*self._late, *absent]
        run.exchange.fail(missed)
        for device_id in self._outliers():
            run.exchange.refuse(device_id)
            self._rejected[device_id] = "update.outlier"
            del self._admitted[device_id]
        dropped = sorted({*missed, *self._lost})
        if verdict is Judgement.ABANDON or len(self._admitted) < run.definition.quorum:
            run.abandon(self._report(dropped, "federated.quorum"))
            return
        for device_id in self._admitted:
            run.exchange.accept(device_id)
        try:
            weights = run.advance(levelled(self._updates(), run.definition.admission.examples_factor))
        except Conflict as error:
            if error.code != "federated.too_few":
                raise
            run.abandon(self._report(dropped, error.code))
            return
        run.complete(weights, self._report(dropped))

    def _outliers(self) -> list[str]:
        """Where the hub clips, nobody is left out for others' updates: the noise covers what one device changes."""
        if self._run.definition.privacy.mode == "server":
            return []
        return outliers(self._updates(), self._run.definition.admission.norm_factor)

    def _harvest(self) -> None:
        run = self._run
        harvest = run.exchange.collect()
        self._admitted.update((given.device_id, admitted) for given, admitted in harvest.admitted)
        self._rejected.update(harvest.rejected)
        self._lost.update(harvest.lost)
        for device_id in [d for d in self._admitted if run.roster.node(d) is None]:
            del self._admitted[device_id]  # it was removed while the round went on

    def _expected(self) -> list[str]:
        run = self._run
        gone = run.declined(self._asked_at) - self._joined
        return [d for d in self._asked if d not in gone and run.roster.node(d) is not None]

    def _counts(self) -> RoundCounts:
        expected = self._expected()
        joined = [d for d in expected if d in self._joined]
        lost = sum(d in self._rejected or d in self._lost for d in joined)
        return RoundCounts(asked=len(expected), joined=len(joined), admitted=len(self._admitted), lost=lost)

    def _updates(self) -> list[Admitted]:
        return [self._admitted[device_id] for device_id in sorted(self._admitted)]

    def _report(self, dropped: list[str], abandoned: str = "") -> RoundReport:
        run = self._run
        return RoundReport(
            round_no=run.round_no + 1,
            asked=list(self._asked),
            joined=sorted(self._joined),
            admitted=sorted(self._admitted),
            rejected=dict(sorted(self._rejected.items())),
            dropped=dropped,
            metrics=means(self._updates()),
            bytes_down=run.exchange.bytes_down - self._bytes[0],
            bytes_up=run.exchange.bytes_up - self._bytes[1],
            seconds=round(run.around.monotonic() - self._start, 3),
            abandoned=abandoned,
            traffic=run.roster.traffic(),
        )
