"""Where the agent keeps things. One folder; nothing outside it is ever written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared import ids

__all__ = ["AgentPaths", "ModelPaths"]


@dataclass(frozen=True, slots=True)
class ModelPaths:
    """The files of one model: journal, pointer to the active slot, slots, partial downloads."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "journal.json"

    @property
    def current(self) -> Path:
        """The pointer file; its content is the name of the active slot."""
        return self.root / "current"

    @property
    def slots(self) -> Path:
        return self.root / "slots"

    @property
    def download(self) -> Path:
        return self.root / "download"


@dataclass(frozen=True, slots=True)
class AgentPaths:
    """The state folder of an agent."""

    root: Path

    @property
    def identity(self) -> Path:
        return self.root / "identity"

    @property
    def settings(self) -> Path:
        """Optional settings (`agent.settings`), written by a person."""
        return self.root / "agent.yaml"

    @property
    def tuf(self) -> Path:
        return self.root / "tuf"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox.db"

    @property
    def desired(self) -> Path:
        """The newest desired-state document, as received."""
        return self.root / "desired.msgpack"

    @property
    def drift(self) -> Path:
        """What was counted of each model's data since it was last told."""
        return self.root / "drift"

    @property
    def samples(self) -> Path:
        """Labelled samples to train on, encrypted, and their key."""
        return self.root / "samples"

    @property
    def training(self) -> Path:
        """What the training process keeps: residuals of updates, heads of this device's own."""
        return self.root / "training"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def running(self) -> Path:
        """Stands while the agent runs, and keeps crashes until they are told (`agent.telemetry.running`)."""
        return self.root / "running.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.run / "agent.sock"

    @property
    def lock(self) -> Path:
        """Held by the one daemon that may use this folder."""
        return self.run / "agent.lock"

    def model(self, name: str) -> ModelPaths:
        """The folder of one model; a hostile name is refused."""
        return ModelPaths(self.models / ids.parse_model_name(name))
