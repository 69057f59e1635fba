"""What a signature would change, in words; and the proof that a release adds one bundle and nothing else. Pure.

`changes` walks both versions of the signed part completely, so nothing can hide in a field that it does not know.
`check_only_adds` builds the release itself from what is published and compares bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tuf.api.metadata import Targets

from hub.trust import metadata
from shared.errors import Untrusted

__all__ = ["changes", "check_only_adds"]

MIN_RELEASE_LIFETIME_S = 86_400
MAX_RELEASE_LIFETIME_S = 2 * 365 * 86_400


def changes(old: bytes | None, new: bytes) -> list[str]:
    """Every difference of the signed part, one line each; everything is new if there was nothing before."""
    before = metadata.parse_any(old).signed.to_dict() if old is not None else {}
    after = metadata.parse_any(new).signed.to_dict()
    return list(_differences("", before, after))


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(f"{path} / {key}" if path else key, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif _as_roles(old) is not None and _as_roles(new) is not None:
        yield from _differences(path, _as_roles(old), _as_roles(new))
    elif isinstance(old, list) and isinstance(new, list) and old != new and _plain(old) and _plain(new):
        yield from (f"removed  {path}: {item}" for item in old if item not in new)
        yield from (f"added    {path}: {item}" for item in new if item not in old)
        if sorted(map(str, old)) == sorted(map(str, new)):
            yield f"changed  {path}: only the order"
    elif old is _ABSENT:
        yield f"added    {path}: {_text(new)}"
    elif new is _ABSENT:
        yield f"removed  {path}: {_text(old)}"
    elif old != new:
        yield f"changed  {path}: {_text(old)} -> {_text(new)}"


_ABSENT = object()


def _plain(items: list[Any]) -> bool:
    return not any(isinstance(item, dict | list) for item in items)


def _as_roles(value: Any) -> dict[str, Any] | None:
    """A list of delegations by name, because their order means nothing to people."""
    if isinstance(value, list) and all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value):
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
    if metadata.without_signatures(staged) != expected:
        found = "; ".join(changes(expected, staged)[:5])
        raise Untrusted(
            "sign.unexpected_content",
            f"What the hub wants signed is not just version {version} of {model}: {found}.",
            hint="Do not sign. Withdraw it and look at who staged it: `skerry audit list`.",
            detail={"differences": changes(expected, staged)[:50]},
        )
    if not now_s + MIN_RELEASE_LIFETIME_S <= expires_s <= now_s + MAX_RELEASE_LIFETIME_S:
        raise Untrusted(
            "sign.odd_expiry",
            "What the hub wants signed expires too soon or too late.",
            hint="Do not sign; check the clocks of both machines and the hub's settings.",
            detail={"expires_s": expires_s},
        )
