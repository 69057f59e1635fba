"""Which firmware profiles can run a version. What the hub does not know cannot run it.

The hub knows the profiles that come with Skerry, and those in a folder of its own, `<name>.yaml` each. A device's word
for its profile is only ever a name, never a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from shared.bundle.manifest import Requirements
from shared.errors import InvalidInput, NotFound, SkerryError
from shared.profiles import Profile, check_requirements, load_profile, profile_names

__all__ = ["Compatibility"]

_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}\Z")


class Compatibility:
    """Checks profiles against requirements; each profile is loaded once. `folder`: profiles of the fleet's own."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, Profile] = {}

    def unfit(self, profiles: Iterable[str], requirements: Requirements) -> dict[str, str]:
        """Those of `profiles` that cannot run a version with these requirements, each with the reason's code."""
        out: dict[str, str] = {}
        for name in profiles:
            try:
                check_requirements(self.profile(name), requirements)
            except SkerryError as error:
                out[name] = error.code
        return out

    def profile(self, name: str) -> Profile:
        """The profile of that name; errors `profile.*`."""
        if name not in self._known:
            self._known[name] = self._load(name)
        return self._known[name]

    def _load(self, name: str) -> Profile:
        if name in profile_names():
            return load_profile(name)
        path = self._folder / f"{name}.yaml" if self._folder is not None and _NAME.match(name) else None
        if path is None or not path.is_file():
            raise NotFound("profile.unknown", f"The hub does not know the firmware profile {name!r:.80}.")
        profile = load_profile(path)
        if profile.name != name:
            raise InvalidInput("profile.invalid", f"{path.name} describes the profile {profile.name!r:.80}.")
        return profile
