"""Names in the TUF repository: roles, target paths and the file names under which metadata is served.

A model's role is `model-<name>` and may only speak about `<name>/*`; a version's target is `<name>/<version>.bundle`.
`skerry` is not a model name, because `skerry/assignment-keys.json` belongs to the top-level targets role.
"""

from __future__ import annotations

import re

from shared.errors import InvalidInput, NotFound
from shared.ids import parse_model_name, parse_version

__all__ = [
    "OFFLINE_ROLES",
    "delegator_of",
    "parse_filename",
    "parse_role",
    "role_model",
    "role_of",
    "role_paths",
    "split_target_file",
    "target_path",
]

OFFLINE_ROLES = ("root", "targets")
RESERVED_MODELS = frozenset({"skerry"})
_PREFIX = "model-"
_FILE = re.compile(r"^(?:([1-9][0-9]{0,9})\.)?([a-z0-9_-]{1,64})\.json\Z")
_TARGET_FILE = re.compile(r"^([0-9a-f]{64})\.([a-z0-9][a-z0-9_.-]{0,63})\Z")


def role_of(model: str) -> str:
    """The delegated role of a model; `trust.reserved_name` for a name that no model may have."""
    name = parse_model_name(model)
    if name in RESERVED_MODELS:
        raise InvalidInput("trust.reserved_name", f"A model cannot be called {name}.", hint="Choose another name.")
    return _PREFIX + name


def role_model(role: str) -> str | None:
    """The model of a delegated role, or None for a top-level role."""
    return role.removeprefix(_PREFIX) if role.startswith(_PREFIX) else None


def role_paths(model: str) -> list[str]:
    """The target paths that a model's role may speak about."""
    return [f"{model}/*"]


def target_path(model: str, version: int) -> str:
    """The target path of a version's bundle."""
    return f"{parse_model_name(model)}/{parse_version(version)}.bundle"


def delegator_of(role: str) -> str | None:
    """The role that appoints the signers of `role`; None for root, which appoints itself."""
    root, targets = OFFLINE_ROLES
    if role == root:
        return None
    return root if role == targets else targets


def parse_role(text: str) -> str:
    """A role that people sign: `root`, `targets` or `model-<name>`; error `trust.unknown_role`."""
    if text in OFFLINE_ROLES:
        return text
    model = role_model(text)
    if model is None:
        raise NotFound(
            "trust.unknown_role",
            f"{text[:80]!r} is not a role that people sign.",
            hint="root, targets or model-<name>.",
        )
    return role_of(model)


def parse_filename(filename: str) -> tuple[str, int | None]:
    """Role and version of `3.root.json` or `timestamp.json`; error `trust.no_such_metadata`."""
    found = _FILE.match(filename) if len(filename) <= 96 else None
    if found is None or (found[1] is None) != (found[2] == "timestamp"):
        raise NotFound("trust.no_such_metadata", f"There is no metadata called {filename[:96]!r}.")
    return found[2], int(found[1]) if found[1] else None


def split_target_file(directory: str, filename: str) -> tuple[str, str]:
    """Target path and SHA-256 of the URL parts `<dir>/<sha256>.<file>`; error `trust.no_such_target`."""
    found = _TARGET_FILE.match(filename)
    if found is None:
        raise NotFound("trust.no_such_target", "There is no such target file.")
    return f"{directory}/{found[2]}", found[1]
