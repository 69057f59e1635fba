"""Flower's strategies over admitted updates: the weights of a round and its updates in, new weights out.

Only admitted updates come here (`hub.federated.admission`), so what Flower's strategies do with a bad reply does not
matter. A strategy's memory (momentum, second moments) can be taken out and put back, so that a run goes on after a
restart exactly where it stood. A pre-selection by Multi-Krum can stand before every strategy: its server optimiser then
works on what the selection leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.federated.admission import Admitted
from hub.federated.flower.quiet import silence
from hub.federated.strategy_names import check_strategy

silence()

from flwr.app import ArrayRecord, MetricRecord, RecordDict  # noqa: E402
from flwr.serverapp import strategy as flower  # noqa: E402
from flwr.serverapp.strategy.multikrum import select_multikrum  # noqa: E402

from shared.errors import Conflict, InvalidInput  # noqa: E402

__all__ = ["STRATEGIES", "Aggregator", "Preselection"]

Vector = NDArray[np.float32]
_KEY = "0"
FEDYOGI_RATE = 0.05
"""Best over the four splits of `tests/bench/federated`; Flower's own 0.01 learns too slowly for 30 rounds."""

STRATEGIES: dict[str, tuple[type[flower.FedAvg], dict[str, str]]] = {
    # our name: (Flower's class, our parameter -> Flower's)
    "fedavg": (flower.FedAvg, {}),
    "fedprox": (flower.FedProx, {"proximal_mu": "proximal_mu"}),
    "fedavgm": (flower.FedAvgM, {"momentum": "server_momentum", "learning_rate": "server_learning_rate"}),
    "fedadam": (
        flower.FedAdam,
        {"learning_rate": "eta", "beta_1": "beta_1", "beta_2": "beta_2", "adaptivity": "tau"},
    ),
    "fedyogi": (
        flower.FedYogi,
        {"learning_rate": "eta", "beta_1": "beta_1", "beta_2": "beta_2", "adaptivity": "tau"},
    ),
    "median": (flower.FedMedian, {}),
    "trimmed_mean": (flower.FedTrimmedAvg, {"cut": "beta"}),
    "krum": (flower.Krum, {"malicious": "num_malicious_nodes"}),
    "multikrum": (flower.MultiKrum, {"malicious": "num_malicious_nodes", "keep": "num_nodes_to_select"}),
    "bulyan": (flower.Bulyan, {"malicious": "num_malicious_nodes"}),
}


@dataclass(frozen=True, slots=True)
class _Reply:
    """As much of Flower's `Message` as its strategies look at; a real one belongs to a running task."""

    content: RecordDict

    def has_error(self) -> bool:
        return False


class Preselection(msgspec.Struct, frozen=True, kw_only=True):
    """Multi-Krum before the strategy: of n updates the `n - malicious - 1` that lie closest to the others are kept."""

    malicious: int


class Aggregator:
    """One strategy over the rounds of one run. Errors: `federated.strategy` (unknown name or parameter)."""

    def __init__(
        self, name: str, parameters: Mapping[str, float | int] | None = None, preselect: Preselection | None = None
    ) -> None:
        given = dict(parameters or {})
        check_strategy(name, given)
        made, names = STRATEGIES[name]
        arguments: dict[str, Any] = {names[key]: value for key, value in given.items()}
        if made is flower.FedProx:
            arguments.setdefault("proximal_mu", 0.1)
        if made is flower.FedYogi:
            arguments.setdefault("eta", FEDYOGI_RATE)
        try:
            self._strategy: Any = made(**arguments)
        except ValueError as error:
            raise InvalidInput("federated.strategy", f"The strategy {name} refuses its parameters: {error}") from error
        self._preselect = preselect

    def step(self, weights: Vector, updates: Sequence[Admitted], round_no: int) -> Vector:
        """The weights after this round; error `federated.too_few` when there are too few updates for the strategy."""
        chosen = [_content(weights, update) for update in updates]
        if self._preselect is not None:
            chosen = self._selected(chosen, self._preselect.malicious)
        self._remember(weights)
        arrays, _ = self._strategy.aggregate_train(round_no, [_Reply(content) for content in chosen])
        if arrays is None:
            raise Conflict("federated.too_few", f"{len(updates)} updates are too few for this strategy.")
        (result,) = arrays.to_numpy_ndarrays()
        return np.asarray(result, np.float32)

    def memory(self) -> dict[str, Vector]:
        """What the strategy remembers between rounds, for a checkpoint."""
        kept: dict[str, Vector] = {}
        for name in ("m_t", "v_t"):
            if getattr(self._strategy, name, None):
                kept[name] = getattr(self._strategy, name)[_KEY]
        if getattr(self._strategy, "momentum_vector", None) is not None:
            kept["momentum"] = self._strategy.momentum_vector[0]
        return kept

    def restore(self, memory: Mapping[str, Vector]) -> None:
        """Put back what `memory` gave."""
        for name in ("m_t", "v_t"):
            if name in memory:
                setattr(self._strategy, name, {_KEY: memory[name]})
        if "momentum" in memory:
            self._strategy.momentum_vector = [memory["momentum"]]

    def _selected(self, contents: list[RecordDict], malicious: int) -> list[RecordDict]:
        keep = len(contents) - malicious - 1
        if keep < 1 or len(contents) < malicious + 3:
            raise Conflict("federated.too_few", f"{len(contents)} updates cannot outvote {malicious} malicious ones.")
        return select_multikrum(contents, num_malicious_nodes=malicious, num_nodes_to_select=keep)

    def _remember(self, weights: Vector) -> None:
        """What Flower's `configure_train` would note, without a grid to give messages to."""
        if hasattr(self._strategy, "m_t"):
            self._strategy.current_arrays = {_KEY: weights}
        elif hasattr(self._strategy, "momentum_vector"):
            self._strategy.current_arrays = ArrayRecord({_KEY: _array(weights)})


def _content(weights: Vector, update: Admitted) -> RecordDict:
    arrays = ArrayRecord({_KEY: _array(weights + update.difference)})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": update.examples})})


def _array(weights: Vector) -> Any:
    (array,) = ArrayRecord([weights]).values()
    return array
