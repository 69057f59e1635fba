"""The strategies by name, and the parameters that each has, so that a run is checked without Flower. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shared.errors import InvalidInput

__all__ = ["STRATEGY_PARAMETERS", "check_strategy"]

_SERVER = ("learning_rate", "beta_1", "beta_2", "adaptivity")
STRATEGY_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedprox": ("proximal_mu",),
    "fedavgm": ("momentum", "learning_rate"),
    "fedadam": _SERVER,
    "fedyogi": _SERVER,
    "median": (),
    "trimmed_mean": ("cut",),
    "krum": ("malicious",),
    "multikrum": ("malicious", "keep"),
    "bulyan": ("malicious",),
}


def check_strategy(name: str, parameters: Collection[str]) -> None:
    """Return if there is such a strategy with such parameters; error `federated.strategy`."""
    if name not in STRATEGY_PARAMETERS:
        raise InvalidInput(
            "federated.strategy",
            f"There is no strategy {name!r:.40}.",
            hint=f"Known: {', '.join(STRATEGY_PARAMETERS)}.",
        )
    strange = sorted(set(parameters) - set(STRATEGY_PARAMETERS[name]))
    if strange:
        raise InvalidInput(
            "federated.strategy",
            f"The strategy {name} has no parameter {', '.join(strange)}."[:400],
            hint=f"It has: {', '.join(STRATEGY_PARAMETERS[name]) or 'none'}.",
        )
