"""The configuration of nats-server, as text. Pure.

Rules: the NATS listener is on the loopback only and takes the hub's two users only; the MQTT listener wants a client
certificate of one of the hub's authorities, and every connection there is decided by the auth callout. The TLS
handshake may take 20 s and the callout 5 s, because a fleet that comes back at once would otherwise be reset before
its turn. Syncing to disk stays at the server's default: nobody trusts a PUBACK, devices keep a message until the hub's
commit is confirmed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ACCOUNT", "HUB_USER", "SYSTEM_USER", "BrokerConfig", "render"]

ACCOUNT = "FLEET"
HUB_USER = "hub"
SYSTEM_USER = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """Where the child listens and stores. A port of 0 takes a free one; `store_bytes` bounds all streams together."""

    directory: Path
    certificate: Path
    key: Path
    client_cas: Path
    mqtt_host: str = "0.0.0.0"
    mqtt_port: int = 8883
    nats_port: int = 4222
    store_bytes: int = 1024**3


def render(config: BrokerConfig, *, server_name: str, issuer: str, hub_password: str, system_password: str) -> str:
    """The configuration file. `issuer` is the public key of the account that signs callout answers."""
    log = config.directory / "nats-server.log"
    host = f"[{config.mqtt_host}]" if ":" in config.mqtt_host else config.mqtt_host
    return f"""\
server_name: {_quoted(server_name)}
listen: "127.0.0.1:{config.nats_port}"
log_file: {_quoted(log)}
logfile_size_limit: 10485760
logfile_max_num: 3
jetstream {{
  store_dir: {_quoted(config.directory)}
  max_file_store: {config.store_bytes}
  max_memory_store: 67108864
}}
mqtt {{
  listen: "{host}:{config.mqtt_port}"
  tls {{
    cert_file: {_quoted(config.certificate)}
    key_file: {_quoted(config.key)}
    ca_file: {_quoted(config.client_cas)}
    verify: true
    timeout: 20
  }}
}}
accounts {{
  {ACCOUNT} {{
    jetstream: enabled
    users: [ {{ user: {HUB_USER}, password: {_quoted(hub_password)} }} ]
  }}
  SYS {{
    users: [ {{ user: {SYSTEM_USER}, password: {_quoted(system_password)} }} ]
  }}
}}
system_account: SYS
authorization {{
  timeout: 5
  auth_callout {{
    issuer: {issuer}
    account: {ACCOUNT}
    auth_users: [ {HUB_USER}, {SYSTEM_USER} ]
  }}
}}
"""


def _quoted(value: str | Path) -> str:
    return json.dumps(str(value.absolute() if isinstance(value, Path) else value))
