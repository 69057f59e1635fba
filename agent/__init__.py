"""The agent: what runs on a device. Applications use `agent.Predictor` for predictions in their own process."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.inference.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    # Loaded at the first use, so that commands of the agent that predict nothing do not load the TFLite runtime.
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agent.inference.predictor import Predictor

    return Predictor
