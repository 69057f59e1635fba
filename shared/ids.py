"""Identifiers that travel: each is refused here unless it is safe as a file name, an MQTT topic level and a NATS token.

A device id must not contain `.`, `/`, `*`, `>`, `+`, `#`, `$` or white space: NATS maps MQTT's `/` to `.`, and both
brokers give the others a meaning. All ids are lower case, so that two of them never differ on one file system only.
"""

from __future__ import annotations

import re
import secrets

from shared.errors import InvalidInput

__all__ = [
    "MAX_VERSION",
    "SHA256_PATTERN",
    "DEVICE_PATTERN",
    "GROUP_PATTERN",
    "MODEL_PATTERN",
    "new_token",
    "parse_alias",
    "parse_device_id",
    "parse_group_name",
    "parse_model_name",
    "parse_sha256",
    "parse_tag",
    "parse_version",
]

DEVICE_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}\Z"
MODEL_PATTERN = r"^[a-z][a-z0-9_-]{0,47}\Z"
ALIAS_PATTERN = r"^[a-z][a-z0-9_-]{0,31}\Z"
TAG_KEY_PATTERN = r"^[a-z][a-z0-9_-]{0,31}\Z"
GROUP_PATTERN = r"^[a-z][a-z0-9_-]{0,47}\Z"
SHA256_PATTERN = r"^[0-9a-f]{64}\Z"
MAX_VERSION = 2**31 - 1

_DEVICE = re.compile(DEVICE_PATTERN)
_MODEL = re.compile(MODEL_PATTERN)
_ALIAS = re.compile(ALIAS_PATTERN)
_TAG_KEY = re.compile(TAG_KEY_PATTERN)
_GROUP = re.compile(GROUP_PATTERN)
_SHA256 = re.compile(SHA256_PATTERN)


def _parse(text: object, pattern: re.Pattern[str], code: str, what: str, rule: str) -> str:
    if not isinstance(text, str) or len(text) > 256 or not pattern.match(text):
        shown = repr(text)[:80]
        raise InvalidInput(code, f"{shown} is not a valid {what}.", hint=f"A {what} has {rule}.")
    return text


def parse_device_id(text: object) -> str:
    """A device id, or `InvalidInput` (`id.device`)."""
    return _parse(text, _DEVICE, "id.device", "device id", "1 to 63 of a-z 0-9 _ - and starts with a letter or digit")


def parse_model_name(text: object) -> str:
    """A model name, or `InvalidInput` (`id.model`)."""
    return _parse(text, _MODEL, "id.model", "model name", "1 to 48 of a-z 0-9 _ - and starts with a letter")


def parse_group_name(text: object) -> str:
    """The name of a device group, or `InvalidInput` (`id.group`)."""
    return _parse(text, _GROUP, "id.group", "group name", "1 to 48 of a-z 0-9 _ - and starts with a letter")


def parse_alias(text: object) -> str:
    """An alias such as `production`, or `InvalidInput` (`id.alias`)."""
    return _parse(text, _ALIAS, "id.alias", "alias", "1 to 32 of a-z 0-9 _ - and starts with a letter")


def parse_sha256(text: object) -> str:
    """A SHA-256 digest in 64 lower-case hex digits, or `InvalidInput` (`id.sha256`)."""
    return _parse(text, _SHA256, "id.sha256", "SHA-256 digest", "64 lower-case hex digits")


def parse_version(value: object) -> int:
    """A model version number from 1 to 2^31-1, given as int or decimal text, or `InvalidInput` (`id.version`)."""
    if isinstance(value, str) and len(value) <= 10 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_VERSION:
        raise InvalidInput("id.version", f"{value!r:.80} is not a version number.", hint="Versions count from 1.")
    return value


def parse_tag(key: object, value: object) -> tuple[str, str]:
    """A tag as (key, value); the value is printable text of at most 128 characters, or `InvalidInput` (`id.tag`)."""
    name = _parse(key, _TAG_KEY, "id.tag", "tag name", "1 to 32 of a-z 0-9 _ - and starts with a letter")
    if not isinstance(value, str) or not value or len(value) > 128 or not value.isprintable():
        raise InvalidInput(
            "id.tag", f"The value of tag {name} is not valid.", hint="Use 1 to 128 printable characters."
        )
    return name, value


def new_token(prefix: str) -> str:
    """A fresh secret of 256 random bits, recognisable by its prefix, for example `ske_…`."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
