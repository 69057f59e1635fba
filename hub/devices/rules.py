"""What a device may call itself, pure: profile names, hardware ids, tags, and who may enrol with which token."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hub.store.enrolment import EnrolmentTokenRow
from shared import ids
from shared.errors import Forbidden, InvalidInput
from shared.limits import MAX_TAGS_PER_DEVICE_COUNT

__all__ = ["check_hardware_id", "check_profile_name", "check_tags", "check_token_fits", "checked_tag_changes"]

_PROFILE = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}\Z")


def check_profile_name(name: str) -> str:
    """A firmware profile's name, or `InvalidInput` (`id.profile`)."""
    if not _PROFILE.match(name):
        raise InvalidInput("id.profile", f"{name!r:.80} is not a profile name.", hint="For example: raspberry-pi-4.")
    return name


def check_hardware_id(text: str) -> str:
    """A hardware id (may be empty: unknown), or `InvalidInput` (`id.hardware`)."""
    if len(text) > 128 or not text.isprintable():
        raise InvalidInput("id.hardware", "A hardware id has at most 128 printable characters.")
    return text


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags to set, or `InvalidInput` (`id.tag`, `device.too_many_tags`)."""
    if len(tags) > MAX_TAGS_PER_DEVICE_COUNT:
        raise InvalidInput("device.too_many_tags", f"A device has at most {MAX_TAGS_PER_DEVICE_COUNT} tags.")
    return dict(ids.parse_tag(key, value) for key, value in tags.items())


def checked_tag_changes(changes: Mapping[str, str | None]) -> dict[str, str | None]:
    """Tag changes (None takes one away), or `InvalidInput` (`id.tag`, `device.too_many_tags`)."""
    wanted = check_tags({key: value for key, value in changes.items() if value is not None})
    gone = [ids.parse_tag(key, "x")[0] for key, value in changes.items() if value is None]
    return {**wanted, **dict.fromkeys(gone)}


def check_token_fits(token: EnrolmentTokenRow, *, profile: str, hardware_id: str) -> None:
    """Return if this device may use this token; else `enrolment.hardware`, `enrolment.profile`."""
    if token.hardware_id is not None and token.hardware_id != hardware_id:
        raise Forbidden(
            "enrolment.hardware",
            "This token is for another piece of hardware.",
            hint="Use the token that was made for this device's hardware id.",
        )
    if token.profile is not None and token.profile != profile:
        raise Forbidden(
            "enrolment.profile",
            f"This token is for the profile {token.profile}, and the device has {profile}.",
            hint="Set the device's profile, or ask for another token.",
        )
