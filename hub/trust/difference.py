"""What a signature would change, in words; and the proof that a release changes one bundle and nothing else. Pure.

`changes` walks both versions of the signed part completely, so nothing can hide in a field that it does not know.
`check_only_adds` and `check_only_removes` build the release themselves from what is published and compare bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tuf.api.metadata import Targets

from hub.trust import metadata
from shared.errors import Untrusted

__all__ = ["changes", "check_only_adds", "check_only_removes"]

MIN_RELEASE_LIFETIME_S = 86_400
MAX_RELEASE_LIFETIME_S = 2 * 365 * 86_400


def changes(old: bytes | None, new: bytes) -> list[str]:
    """Every difference of the signed part, one line each; everything is new if there was nothing before."""
    before = metadata.parse_any(old).signed.to_dict() if old is not None else {}
    after = metadata.parse_any(new).signed.to_dict()
    return list(_differences("", before, after))


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if _exactly(old) == _exactly(new):
        return
    found = list(_inside(path, old, new))
    if found:
        yield from found
    elif old is _ABSENT:
        yield f"added    {path}: {_text(new)}"
    elif new is _ABSENT:
        yield f"removed  {path}: {_text(old)}"
    else:
        yield f"changed  {path}: {_text(old)} -> {_text(new)}"


def _inside(path: str, old: Any, new: Any) -> Iterator[str]:
    """Differences of the parts, where both sides have parts of the same kind; a mere change of order has none."""
    before, after = _parts(old), _parts(new)
    if before is not None and after is not None:
        for key in sorted({*before, *after}):
            below = f"{path} / {key}" if path else key
            yield from _differences(below, before.get(key, _ABSENT), after.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        known, wanted = [_exactly(item) for item in old], [_exactly(item) for item in new]
        yield from (f"removed  {path}: {_text(item)}" for item in old if _exactly(item) not in wanted)
        yield from (f"added    {path}: {_text(item)}" for item in new if _exactly(item) not in known)


def _exactly(value: Any) -> str:
    """A text that is the same for the same JSON only: `1`, `1.0` and `true` are different things."""
    return "" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _parts(value: Any) -> dict[str, Any] | None:
    """The named parts of an object, or of a list of delegations."""
    return value if isinstance(value, dict) else _as_roles(value)


_ABSENT = object()


def _as_roles(value: Any) -> dict[str, Any] | None:
    """A list of delegations by name."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value)
    ):
        found = {item["name"]: item for item in value}
        return found if len(found) == len(value) else None
    return None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(value[key])}" for key in sorted(value)) or "(empty)"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return str(value)


def check_only_adds(
    published: bytes | None, staged: bytes, model: str, version: int, bundle: tuple[str, int], now_s: float
) -> None:
    """Return if `staged` is `published` plus this one bundle (sha256, bytes) and lives sanely long.

    Errors: `sign.unexpected_content`, `sign.odd_expiry`.
    """
    expires_s = metadata.expiry_s(metadata.parse(staged, Targets).signed)
    expected = metadata.build_release(published, model, version, *bundle, expires_s=expires_s)
    _check_exactly(staged, expected, f"version {version} of {model}")
    _check_lifetime(expires_s, now_s)


def check_only_removes(published: bytes, staged: bytes, model: str, version: int, now_s: float) -> None:
    """Return if `staged` is `published` without this one version, and lives sanely long.

    Errors: `sign.unexpected_content`, `sign.odd_expiry`, `release.not_approved`.
    """
    expires_s = metadata.expiry_s(metadata.parse(staged, Targets).signed)
    expected = metadata.build_revocation(published, model, version, expires_s=expires_s)
    _check_exactly(staged, expected, f"the end of version {version} of {model}")
    _check_lifetime(expires_s, now_s)


def _check_exactly(staged: bytes, expected: bytes, what: str) -> None:
    if metadata.without_signatures(staged) != expected:
        found = changes(expected, staged)
        raise Untrusted(
            "sign.unexpected_content",
            f"What the hub wants signed is not just {what}: {'; '.join(found[:5])}.",
            hint="Do not sign. Withdraw it and look at who staged it: `skerry audit list`.",
            detail={"differences": found[:50]},
        )


def _check_lifetime(expires_s: float, now_s: float) -> None:
    if not now_s + MIN_RELEASE_LIFETIME_S <= expires_s <= now_s + MAX_RELEASE_LIFETIME_S:
        raise Untrusted(
            "sign.odd_expiry",
            "What the hub wants signed expires too soon or too late.",
            hint="Do not sign; check the clocks of both machines and the hub's settings.",
            detail={"expires_s": expires_s},
        )
