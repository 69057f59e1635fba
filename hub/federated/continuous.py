"""Runs without rounds in step: every device trains at its own pace, every `goal` updates make a step of the model.

Rules: as many devices as a round would ask are kept busy; each begins with the newest weights, and its update counts
the less the older they were (`hub.federated.buffered`); what the buffer makes of the updates is handed to the strategy
as one update, so that a server optimiser works here too. A task that is not answered by its deadline is given to
somebody else. When more than a goal of tasks was lost or refused without a step, that counts as an abandoned round.
A checkpoint stands at each step; updates that have not made one are lost with the process, never half used.
"""

from __future__ import annotations

from collections import deque

from hub.federated.admission import Admitted
from hub.federated.buffered import Buffer, add
from hub.federated.exchange import Given
from hub.federated.report import RoundReport, means
from hub.federated.run import Run, RunEnd
from hub.federated.selection import OVER_SELECTION_PERCENT, select
from shared.errors import InvalidInput

__all__ = ["run_buffered"]


def run_buffered(run: Run) -> RunEnd:
    """All steps that are left; errors as `hub.federated.synchronous.run_rounds`."""
    pace = _Pace(run)
    while run.round_no < run.definition.rounds.count and not run.cancelled and not pace.spent():
        pace.tick()
    run.exchange.give_up()
    if run.cancelled:
        return RunEnd.CANCELLED
    return RunEnd.FINISHED if run.round_no >= run.definition.rounds.count else run.spent()


class _Pace:
    """Who is busy, and what has come since the last step."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asked: dict[str, float] = {}
        self._come: deque[tuple[Given, Admitted]] = deque()
        self._rejected: dict[str, str] = {}
        self._wasted = 0
        self._dropped: list[str] = []
        self._joined: list[str] = []
        self._used: list[Admitted] = []
        self._attempt = 0
        self._begin()

    def spent(self) -> bool:
        """Whether nobody can be asked any more for want of budget, and nothing is to come."""
        return not (self._asked or self._come or self._run.exchange.busy()) and self._run.spending.over(1)

    def tick(self) -> None:
        """Give, collect and use what has come; at most one step."""
        run = self._run
        self._engage()
        harvest = run.exchange.collect()
        self._come.extend(harvest.admitted)
        self._rejected.update(harvest.rejected)
        self._dropped.extend(harvest.lost)
        self._wasted += len(harvest.rejected) + len(harvest.lost)
        while self._come:
            if self._use(*self._come.popleft()):
                self._begin()
                return
        self._expire()
        if self._wasted > run.definition.rounds.goal:
            run.abandon(self._report("federated.quorum"))
            self._rejected, self._dropped, self._wasted = {}, [], 0
        if run.exchange.busy():
            run.heard()
            run.around.pause()
        else:
            run.alone()

    def _begin(self) -> None:
        """The stretch to the next step."""
        run = self._run
        self._buffer = Buffer.begin(run.weights, run.round_no)
        self._used, self._joined, self._dropped = [], [], []
        self._rejected = {}
        self._wasted = 0
        self._start = run.around.monotonic()
        self._bytes = (run.exchange.bytes_down, run.exchange.bytes_up)

    def _engage(self) -> None:
        """Ask as many as are missing, and give the newest weights to those that have come."""
        run, rounds = self._run, self._run.definition.rounds
        now, busy, declined = run.around.monotonic(), run.exchange.busy(), run.declined()
        for device_id in [d for d in self._asked if d in declined or run.roster.node(d) is None]:
            del self._asked[device_id]
        missing = -(-rounds.goal * OVER_SELECTION_PERCENT // 100) - len(busy) - len(self._asked)
        taken = busy | declined | self._asked.keys()
        free = run.spending.free(c for c in run.roster.candidates() if c.device_id not in taken)
        if missing > 0 and free:
            self._attempt += 1
            wanted = max(1, missing * 100 // OVER_SELECTION_PERCENT)
            chosen = select(free, wanted, run.seed(self._attempt), run.definition.training.min_samples)
            chosen = run.spending.fitting(chosen, pending=[*busy, *self._asked])
            for device_id in chosen:
                run.roster.of(device_id).asked += 1
                self._asked[device_id] = now
            if chosen:
                run.around.ask(run.round_no + 1, chosen)
        come = run.exchange.present(self._asked)
        for device_id in run.exchange.give(come, run.weights, run.round_no, rounds.deadline_s, now):
            del self._asked[device_id]
            self._joined.append(device_id)

    def _use(self, given: Given, admitted: Admitted) -> bool:
        """One more update; True when it makes the step."""
        run, rounds = self._run, self._run.definition.rounds
        try:
            after = add(
                self._buffer,
                admitted.difference,
                admitted.examples,
                given.round_no,
                rounds.goal,
                max_staleness=rounds.max_staleness,
            )
        except InvalidInput as error:
            self._rejected[given.device_id] = error.code  # its age is not its fault: nothing is held against it
            return False
        run.exchange.accept(given.device_id)
        self._used.append(admitted)
        if after.step == self._buffer.step:
            self._buffer = after
            return False
        mean = Admitted(device_id="", difference=after.model - self._buffer.model, examples=1, metrics={})
        run.complete(run.advance([mean]), self._report())
        return True

    def _expire(self) -> None:
        """Give up those that were asked or given a task a deadline ago and more."""
        run = self._run
        first = run.around.monotonic() - run.definition.rounds.deadline_s
        absent = [device_id for device_id, at in self._asked.items() if at <= first]
        for device_id in absent:
            del self._asked[device_id]
        late = run.exchange.give_up(run.exchange.given_before(first))
        self._wasted += len(late)
        run.exchange.fail([*absent, *late])
        self._dropped.extend([*absent, *late])

    def _report(self, abandoned: str = "") -> RoundReport:
        run = self._run
        return RoundReport(
            round_no=run.round_no + 1,
            asked=sorted(self._joined),
            joined=sorted(self._joined),
            admitted=sorted(update.device_id for update in self._used),
            rejected=dict(sorted(self._rejected.items())),
            dropped=sorted(self._dropped),
            metrics=means(self._used),
            bytes_down=run.exchange.bytes_down - self._bytes[0],
            bytes_up=run.exchange.bytes_up - self._bytes[1],
            seconds=round(run.around.monotonic() - self._start, 3),
            abandoned=abandoned,
            traffic=run.roster.traffic(),
        )
