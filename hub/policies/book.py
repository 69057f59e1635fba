"""All policies of a hub in one document, to keep them with other configuration: written out, compared, taken over.

Rules: the whole document is checked before anything changes, and it is taken over in one transaction or not at all.
What it does not name stays as it is, unless it is asked to be removed (`prune`). A token for some models sees theirs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub.federated.trigger_policy import TrainPolicy, stored_train_policy, train_policy_of
from hub.federated.triggers import TrainTriggers
from hub.policies.fields import document, recoded, struct
from hub.rollouts.approval_policy import DeployPolicy, deploy_policy_of, stored_deploy_policy
from hub.rollouts.on_approval import DeployPolicies
from hub.store import models
from hub.store import policies as store
from hub.store.database import Connection, Database
from hub.store.failures import plain_errors
from hub.store.policies import Kind
from shared.wire.types import ModelName

__all__ = ["Change", "PolicyBook", "PolicyDocument"]

What = Literal["added", "changed", "removed", "same"]
_MAX_COUNT = 10_000


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Policies by model: of training, and of what becomes of approved versions."""

    schema_version: Literal[1] = 1
    train: Annotated[dict[ModelName, dict[str, Any]], Meta(max_length=_MAX_COUNT)] = {}
    deploy: Annotated[dict[ModelName, dict[str, Any]], Meta(max_length=_MAX_COUNT)] = {}

    @property
    def models(self) -> frozenset[str]:
        """Those that it names."""
        return frozenset(self.train) | frozenset(self.deploy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the document changes about one policy."""

    kind: Kind
    model: str
    change: What


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The document, read."""

    train: dict[str, TrainPolicy]
    deploy: dict[str, DeployPolicy]

    def texts(self) -> dict[tuple[Kind, str], str]:
        """As they are kept."""
        found: dict[tuple[Kind, str], str] = {("train", m): stored_train_policy(p) for m, p in self.train.items()}
        return found | {("deploy", m): stored_deploy_policy(p) for m, p in self.deploy.items()}


class PolicyBook:
    """Writes all policies out and takes them over."""

    def __init__(self, db: Database, train: TrainTriggers, deploy: DeployPolicies) -> None:
        self._db = db
        self._train = train
        self._deploy = deploy

    def export(self, only: frozenset[str] | None = None) -> PolicyDocument:
        """All policies, or those of the models of a token's scope."""
        with self._db.read() as connection:
            found = _stored(connection, only)
        by_kind: dict[str, dict[str, Any]] = {"train": {}, "deploy": {}}
        for (kind, model), text in found.items():
            by_kind[kind][model] = json.loads(text)
        return PolicyDocument(train=by_kind["train"], deploy=by_kind["deploy"])

    def read(self, data: bytes) -> PolicyDocument:
        """A document from YAML or JSON; errors `policy.invalid`, `policy.too_large`."""
        return struct(document(data), PolicyDocument, (PolicyDocument,), {})

    def apply(
        self,
        wanted: PolicyDocument,
        actor: str,
        only: frozenset[str] | None = None,
        *,
        prune: bool = False,
        dry_run: bool = False,
    ) -> list[Change]:
        """Take a document over, or only say what would change; errors `policy.invalid`, `model.unknown`.

        prune: remove what it does not name. The caller has checked that `only` covers the models that it names.
        """
        parsed = _parsed(wanted)
        if dry_run:
            with self._db.read() as connection:
                for model in sorted(wanted.models):
                    models.get_model(connection, model)
                return _compare(_stored(connection, only), parsed.texts(), prune=prune)
        with plain_errors(), self._db.write() as connection:
            changes = _compare(_stored(connection, only), parsed.texts(), prune=prune)
            for one in changes:
                self._change(connection, one, parsed, actor)
        return changes

    def _change(self, connection: Connection, one: Change, wanted: _Wanted, actor: str) -> None:
        if one.change == "removed":
            taker = self._train if one.kind == "train" else self._deploy
            taker.take_away(connection, one.model, actor)
        elif one.kind == "train":
            self._train.put(connection, one.model, wanted.train[one.model], actor)
        else:
            self._deploy.put(connection, one.model, wanted.deploy[one.model], actor)


def _parsed(wanted: PolicyDocument) -> _Wanted:
    def train(model: str) -> TrainPolicy:
        return recoded(f"train.{model}", lambda: train_policy_of(wanted.train[model], model))

    def deploy(model: str) -> DeployPolicy:
        return recoded(f"deploy.{model}", lambda: deploy_policy_of(wanted.deploy[model], model))

    return _Wanted(
        train={model: train(model) for model in wanted.train}, deploy={model: deploy(model) for model in wanted.deploy}
    )


def _stored(connection: Connection, only: frozenset[str] | None) -> dict[tuple[Kind, str], str]:
    kinds: tuple[Kind, ...] = ("train", "deploy")
    return {
        (kind, row.model): row.document for kind in kinds for row in store.list_policies(connection, kind, only)
    }


def _compare(
    stored: dict[tuple[Kind, str], str], wanted: dict[tuple[Kind, str], str], *, prune: bool
) -> list[Change]:
    found: list[Change] = []
    for kind, model in sorted({*wanted, *(stored if prune else ())}):
        before, after = stored.get((kind, model)), wanted.get((kind, model))
        what: What = "changed"
        if before == after:
            what = "same"
        elif before is None:
            what = "added"
        elif after is None:
            what = "removed"
        found.append(Change(kind=kind, model=model, change=what))
    return found
