"""Which hub to talk to, and as whom.

Strongest first: `--hub`, `--token`, `--ca`; then SKERRY_URL, SKERRY_TOKEN, SKERRY_CA; then the entry of the
configuration file that `skerry config login` writes. A saved token is only ever sent to the hub that it was saved for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared import canonical, durable, strict_yaml
from shared.errors import InvalidInput, NotFound, Unauthorised
from shared.limits import MAX_SETTINGS_BYTES

__all__ = ["Config", "Connection", "HubEntry", "config_path", "load_config", "resolve", "save_config"]

_URL = re.compile(r"^https://[^\s/?#@]+\Z")
_ENTRY_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,31}\Z")


class HubEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hub: its address, a token for it, and the file of the CA that vouches for it (empty: the system's CAs)."""

    url: str
    token: str = ""
    ca: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration file. `current` names the hub in use."""

    current: str = ""
    hubs: dict[str, HubEntry] = {}


@dataclass(frozen=True, slots=True)
class Connection:
    """What the client needs."""

    url: str
    token: str
    ca: Path | None


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the configuration is: `$XDG_CONFIG_HOME/skerry/config.yaml`, by default below `~/.config`."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".config")
    return Path(base) / "skerry" / "config.yaml"


def load_config(path: Path) -> Config:
    """The configuration, empty when there is none; errors `cli.config`, `yaml.malformed`."""
    try:
        document = strict_yaml.load_file(path, limit=MAX_SETTINGS_BYTES)
    except NotFound:
        return Config()
    try:
        return msgspec.convert(document or {}, Config)
    except msgspec.ValidationError as error:
        raise InvalidInput("cli.config", f"{path} is not valid: {error}.", hint="Run `skerry config login`.") from error


def save_config(path: Path, config: Config) -> None:
    """Write the configuration durably, readable by its owner only. JSON is YAML, so it stays readable for both."""
    durable.make_dir(path.parent)
    durable.write_file(path, canonical.dumps(config) + b"\n", mode=0o600)


def parse_entry_name(name: str) -> str:
    """A name for a hub in the configuration, or `cli.hub_name`."""
    if not _ENTRY_NAME.match(name):
        raise InvalidInput("cli.hub_name", f"{name!r:.80} is not a valid name for a hub.", hint="Use a-z 0-9 _ -.")
    return name


def parse_url(url: str) -> str:
    """A hub's address without a trailing slash, or `cli.url`."""
    trimmed = url.rstrip("/")
    if not _URL.match(trimmed):
        raise InvalidInput(
            "cli.url", f"{url!r:.200} is not a hub's address.", hint="It is like https://hub.example:8443."
        )
    return trimmed


def resolve(
    hub: str | None, token: str | None, ca: Path | None, *, config: Config, environ: Mapping[str, str]
) -> Connection:
    """The connection to use; errors `cli.no_hub`, `cli.unknown_hub`, `cli.no_token`, `cli.url`."""
    chosen = hub or environ.get("SKERRY_URL") or config.current
    if not chosen:
        raise InvalidInput(
            "cli.no_hub", "No hub is known.", hint="Run `skerry config login https://HUB:8443`, or set SKERRY_URL."
        )
    entry = _entry(chosen, config)
    secret = token or environ.get("SKERRY_TOKEN") or entry.token
    if not secret:
        raise Unauthorised(
            "cli.no_token",
            f"There is no API token for {entry.url}.",
            hint="Run `skerry config login`, or set SKERRY_TOKEN.",
        )
    named = str(ca) if ca else environ.get("SKERRY_CA") or entry.ca
    return Connection(url=entry.url, token=secret, ca=Path(named) if named else None)


def _entry(chosen: str, config: Config) -> HubEntry:
    if "://" in chosen:
        url = parse_url(chosen)
        return next((entry for entry in config.hubs.values() if entry.url == url), HubEntry(url=url))
    if chosen not in config.hubs:
        known = ", ".join(sorted(config.hubs)) or "none yet"
        raise NotFound(
            "cli.unknown_hub", f"There is no hub named {chosen!r:.80} in the configuration.", hint=f"Known: {known}."
        )
    entry = config.hubs[chosen]
    return HubEntry(url=parse_url(entry.url), token=entry.token, ca=entry.ca)
