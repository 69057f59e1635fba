"""Rules and routes of this hub: the ready rules, changed by `<data>/alerts.yaml`, which also names the routes.

Strict: a file that cannot be used refuses the start (`alerts.invalid`). Secrets stand in files of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hub.alerts.rules import Name, RuleSet, parse_rules, with_changes
from shared import strict_yaml
from shared.errors import InvalidInput

__all__ = ["AlertConfig", "EmailRoute", "LogRoute", "MqttRoute", "Route", "WebhookRoute", "load_config"]

_MAX_BYTES = 256 * 1024
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
Text = Annotated[str, Meta(min_length=1, max_length=1024)]


class WebhookRoute(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook", tag_field="kind"
):
    """POST to `url`, signed with the secret in the file `secret_file`."""

    url: Text
    secret_file: Text


class EmailRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="email", tag_field="kind"):
    """Mail by SMTP. security: starttls, tls, or none (only to this machine)."""

    host: Text
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Annotated[str, Meta(pattern=r"^(starttls|tls|none)\Z")] = "starttls"
    user: str = ""
    password_file: str = ""
    sender: Annotated[str, Meta(pattern=r"^[^\s@]+@[^\s@]+\Z")]
    to: Annotated[list[Annotated[str, Meta(pattern=r"^[^\s@]+@[^\s@]+\Z")]], Meta(min_length=1, max_length=50)]


class MqttRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mqtt", tag_field="kind"):
    """A message on a topic of the hub's own broker: `alerts` or below. `skerry-hub listener` lets a program listen."""

    topic: Annotated[str, Meta(max_length=256, pattern=r"^alerts(/[A-Za-z0-9_-]+)*\Z")] = "alerts"


class LogRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="log", tag_field="kind"):
    """A line in the hub's log."""


Route = WebhookRoute | EmailRoute | MqttRoute | LogRoute


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    routes: dict[Name, Route] = {}
    default_routes: list[Name] | None = None
    rules: dict[str, dict[str, Any]] = {}


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. Every route that is named exists."""

    rules: RuleSet
    routes: dict[str, Route]
    default_routes: list[str]


def load_config(path: Path) -> AlertConfig:
    """The ready rules with what the file says, if there is one; error `alerts.invalid`."""
    ready = Path(__file__).with_name("default_rules.yaml").read_bytes()
    rules = parse_rules(strict_yaml.load(ready, what="rules"))
    plain = strict_yaml.load_file(path, limit=_MAX_BYTES) if path.exists() else {}
    try:
        file = msgspec.convert(plain or {}, _File)
    except msgspec.ValidationError as error:
        raise _invalid(path, str(error)) from error
    routes: dict[str, Route] = {"log": LogRoute(), **file.routes}
    config = AlertConfig(
        rules=with_changes(rules, file.rules),
        routes=routes,
        default_routes=["log"] if file.default_routes is None else list(file.default_routes),
    )
    _check(path, config)
    return config


def _check(path: Path, config: AlertConfig) -> None:
    named = {name for rule in config.rules.values() for name in rule.routes} | set(config.default_routes)
    missing = sorted(named - set(config.routes))
    if missing:
        raise _invalid(path, f"there is no route {missing[0]}")
    for name, route in config.routes.items():
        if isinstance(route, WebhookRoute):
            parts = urlsplit(route.url)
            if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
                raise _invalid(path, f"the route {name} needs an https address")
        if isinstance(route, EmailRoute) and route.security == "none" and route.host not in _LOOPBACK:
            raise _invalid(path, f"the route {name} would send mail in the clear")


def _invalid(path: Path, problem: str) -> InvalidInput:
    return InvalidInput("alerts.invalid", f"{path} is not usable: {problem}."[:300], hint="See docs/monitoring.md.")
