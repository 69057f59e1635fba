"""What a federated run is to do, as data: parsed strictly, every bound checked, nothing guessed.

Rules: what is misspelt or out of bounds refuses the run and names the field (`federated.invalid`); the defaults are
those that the measurements in `tests/bench/federated` favour; a run that could not keep its own promises (a quorum
above its goal, secure aggregation beside a strategy that must see single updates) is refused before a device hears.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub.federated.accountant import affordable
from shared import limits, strict_yaml
from shared.errors import InvalidInput
from shared.federated.codec import Scheme
from shared.federated.secagg.graph import MIN_DEVICES
from shared.field_errors import describe
from shared.wire.types import ModelName, Version

__all__ = ["Admission", "EvaluationRule", "Privacy", "Rounds", "RunBudget", "RunDefinition", "Strategy", "Training"]
__all__ += ["check_run", "parse_run", "run_of"]

Share = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[int, Meta(ge=1, le=7 * 86_400)]
_SEES_SINGLE_UPDATES = frozenset({"median", "trimmed_mean", "krum", "multikrum", "bulyan"})


class Rounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rounds go.

    goal: replies that make a round full. quorum: with fewer at the deadline the round is abandoned. wait_s: how long to
    wait for devices that may take part, before the run fails. patience: abandoned rounds in a row that end the run.
    mode `buffered`: no rounds in step; every `goal` updates make a step of the model (FedBuff).
    """

    mode: Literal["synchronous", "buffered"] = "synchronous"
    count: Annotated[int, Meta(ge=1, le=10_000)] = 30
    goal: Annotated[int, Meta(ge=1, le=10_000)] = 10
    quorum: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    deadline_s: Seconds = 120
    wait_s: Seconds = 3600
    patience: Annotated[int, Meta(ge=1, le=100)] = 3
    max_staleness: Annotated[int, Meta(ge=0, le=1000)] = 20


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What devices do: epochs over their own samples, batches, learning rate; how the update is written.

    held_out: the share of its samples on which a device only measures. personal: also keep a head of its own there.
    """

    epochs: Annotated[int, Meta(ge=1, le=100)] = 2
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 0.1
    proximal_mu: Annotated[float, Meta(ge=0, le=10)] = 0.0
    scheme: Scheme = Scheme.INT8
    keep: Share = 0.1
    held_out: Annotated[float, Meta(ge=0, le=0.5)] = 0.2
    min_samples: Annotated[int, Meta(ge=1, le=10**6)] = 20
    personal: bool = False


class Strategy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How updates become new weights. malicious: so many devices of a round may lie (Multi-Krum sorts them out)."""

    name: Annotated[str, Meta(max_length=32)] = "fedyogi"
    parameters: dict[str, float] = {}
    malicious: Annotated[int, Meta(ge=0, le=1000)] = 0


class Admission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a single update may be. norm_factor: at most so many times the median norm of the round.

    examples_factor: its examples count as at most so many times the median of the round. The default weighs nearly all
    devices alike: a mean in which one device has the weight of five is that device's, and what it learnt wrongly too.
    """

    max_norm: Annotated[float, Meta(gt=0, le=1e9)] = 1e4
    norm_factor: Annotated[float, Meta(gt=1, le=1000)] = 3.0
    max_examples: Annotated[int, Meta(ge=1, le=10**9)] = 10_000
    examples_factor: Annotated[float, Meta(gt=0, le=1000)] = 0.5


class Privacy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """mode `server` or `client`: clip each update to `clip` and add Gaussian noise there; stop at (epsilon, delta).

    secure_aggregation: the hub sees sums only.
    """

    mode: Literal["none", "server", "client"] = "none"
    clip: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    adaptive: bool = False
    noise_multiplier: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    epsilon: Annotated[float, Meta(gt=0, le=1000)] = 8.0
    delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-5
    secure_aggregation: bool = False


class EvaluationRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After the last round devices measure the new weights and the base version's on their held-out share.

    on_devices: whether they are asked; devices: so many at the most. max_drop: with an accuracy that is lower than the
    base version's by more, the candidate is not handed over. min_devices: nor with fewer answers.
    """

    on_devices: bool = True
    devices: Annotated[int, Meta(ge=1, le=limits.MAX_FEDERATED_DEVICES_COUNT)] = 200
    max_drop: Annotated[float, Meta(ge=0, le=1)] = 0.02
    min_devices: Annotated[int, Meta(ge=0, le=10_000)] = 1


class RunBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the run may move at the most, weights and updates, down and up. A device at `device_bytes` is not asked any
    more; at `bytes`, or at `cost` by the profiles' `cost_per_mib`, the run ends with what it has."""

    device_bytes: Annotated[int, Meta(ge=1, le=2**50)] | None = None
    bytes: Annotated[int, Meta(ge=1, le=2**50)] | None = None
    cost: Annotated[float, Meta(gt=0, le=1e12)] | None = None


class RunDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: which model's head is trained, by which devices, and how. `filter` chooses among the active devices."""

    model: ModelName
    version: Version | None = None
    filter: Annotated[str, Meta(max_length=limits.MAX_FILTER_CHARS)] = "all"
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    rounds: Rounds = Rounds()
    training: Training = Training()
    strategy: Strategy = Strategy()
    admission: Admission = Admission()
    privacy: Privacy = Privacy()
    evaluation: EvaluationRule = EvaluationRule()
    budget: RunBudget = RunBudget()
    note: Annotated[str, Meta(max_length=limits.MAX_REASON_CHARS)] = ""

    @property
    def evaluates(self) -> bool:
        """Whether devices are asked to evaluate: it is wanted, they hold samples back, and may say how they do.

        Not where the hub must not see single answers, nor any without noise.
        """
        open_answers = not self.privacy.secure_aggregation and self.privacy.mode != "client"
        return self.evaluation.on_devices and self.training.held_out > 0 and open_answers

    @property
    def quorum(self) -> int:
        """Replies with which a round counts at its deadline: two thirds of the goal unless it is said."""
        return self.rounds.quorum or max(1, -(-2 * self.rounds.goal // 3))


_SPECS = (RunDefinition, Rounds, Training, Strategy, Admission, Privacy, EvaluationRule, RunBudget)


def parse_run(data: bytes, what: str = "the run") -> RunDefinition:
    """The definition in YAML or JSON; errors `federated.invalid` (names the field), `yaml.*`."""
    if len(data) > limits.MAX_SETTINGS_BYTES:
        raise InvalidInput("federated.invalid", f"{what} is larger than {limits.MAX_SETTINGS_BYTES} bytes.")
    return run_of(strict_yaml.load(data, what=what))


def run_of(values: Any) -> RunDefinition:
    """The definition from plain values; error `federated.invalid` (names the field)."""
    try:
        run = msgspec.convert(values, RunDefinition)
    except msgspec.ValidationError as error:
        known = (name for spec in _SPECS for name in spec.__struct_fields__)
        found = describe(str(error), known)
        raise _invalid(f"{found.field}: {found.problem}" if found.field else found.problem, found.field) from error
    check_run(run)
    return run


def check_run(run: RunDefinition) -> None:
    """Return if the run can keep its own promises; error `federated.invalid`."""
    problem = _contradiction(run)
    if problem:
        raise _invalid(problem)


def _contradiction(run: RunDefinition) -> str:
    if run.rounds.quorum is not None and run.rounds.quorum > run.rounds.goal:
        return "rounds.quorum is above rounds.goal"
    if run.strategy.malicious and run.rounds.goal < 2 * run.strategy.malicious + 3:
        return f"strategy.malicious: {run.strategy.malicious} cannot be outvoted by rounds.goal {run.rounds.goal}"
    sorts_out = run.strategy.name in _SEES_SINGLE_UPDATES or run.strategy.malicious > 0
    if run.rounds.mode == "buffered" and sorts_out:
        return "rounds.mode buffered: updates of different ages cannot be sorted out against each other"
    private = _unpayable(run.privacy) or _unprotected(run, sorts_out)
    if private or not run.privacy.secure_aggregation:
        return private
    if run.quorum < MIN_DEVICES:
        return f"privacy.secure_aggregation: a sum of fewer than {MIN_DEVICES} devices tells too much (rounds.quorum)"
    if sorts_out:
        return "privacy.secure_aggregation: the hub sees sums only, so it cannot sort out single updates"
    if run.rounds.mode == "buffered":
        return "privacy.secure_aggregation needs rounds.mode synchronous"
    if run.training.scheme is Scheme.TOP:
        return "privacy.secure_aggregation needs training.scheme int8 or float32: sums need all entries of all devices"
    return ""


def _unpayable(privacy: Privacy) -> str:
    if privacy.mode == "none":
        return "privacy.adaptive is for privacy.mode server or client" if privacy.adaptive else ""
    if privacy.noise_multiplier == 0:
        return "privacy.noise_multiplier: without noise nothing is protected"
    if not affordable(privacy.epsilon, privacy.delta, privacy.noise_multiplier):
        return "privacy: the budget does not pay for one round; more noise_multiplier, or more epsilon"
    return ""


def _unprotected(run: RunDefinition, sorts_out: bool) -> str:
    """Why the noise would not cover what one device can change."""
    if run.privacy.mode == "none":
        return ""
    if run.rounds.mode == "buffered":
        return "privacy.mode needs rounds.mode synchronous: in a buffered run a device may be in one step twice"
    if run.privacy.mode == "server" and sorts_out:
        return "privacy.mode server: noise on a sum does not cover a strategy that sorts out single updates"
    return ""


def _invalid(problem: str, field: str = "") -> InvalidInput:
    return InvalidInput(
        "federated.invalid",
        f"The run is not valid: {problem}."[:400],
        hint="docs/federated.md describes every field.",
        detail={"field": field} if field else {},
    )
