"""Which firmware profiles can run a version. What the hub does not know cannot run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shared.bundle.manifest import Requirements
from shared.errors import SkerryError
from shared.profiles import Profile, check_requirements, load_profile, profile_names

__all__ = ["Compatibility", "known_profile"]


def known_profile(name: str) -> Profile:
    """A profile that comes with Skerry; `profile.unknown` for all else, a path in particular."""
    return load_profile(name if name in profile_names() else "unknown")


class Compatibility:
    """Checks profiles against requirements; each profile is loaded once."""

    def __init__(self, load: Callable[[str], Profile] = known_profile) -> None:
        self._load = load
        self._known: dict[str, Profile] = {}

    def unfit(self, profiles: Iterable[str], requirements: Requirements) -> dict[str, str]:
        """Those of `profiles` that cannot run a version with these requirements, each with the reason's code."""
        out: dict[str, str] = {}
        for name in profiles:
            try:
                check_requirements(self._profile(name), requirements)
            except SkerryError as error:
                out[name] = error.code
        return out

    def _profile(self, name: str) -> Profile:
        if name not in self._known:
            self._known[name] = self._load(name)
        return self._known[name]
