"""Enrolment: from a join string to a certificate. Runs in the command line, never in the daemon.

Rules: the hub's CA is accepted only by the fingerprint in the join string, everything after goes over TLS verified
with it; the key is stored before the request leaves, so an enrolment that was cut can be repeated with the same key;
nothing counts until `identity.json` is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.hub_http import HubHttp, fetch_ca
from agent.identity import keys
from agent.identity.store import Identity, IdentityStore
from agent.lock import exclusive
from agent.ota.metadata_store import MetadataStore
from agent.paths import AgentPaths
from shared import canonical, durable, limits
from shared.errors import Conflict, Untrusted
from shared.ids import parse_device_id
from shared.join import Join
from shared.profiles import load_profile
from shared.wire.http import EnrolReply, EnrolRequest

__all__ = ["Wish", "enrol"]

_LIMIT_BYTES = 2 * limits.MAX_ROOT_BYTES + 256 * limits.KIB
_UNNAMED = "device"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the device asks for: `profile` by name or path; the hub may decide another device id."""

    profile: str
    device_id: str | None = None
    hardware_id: str = ""
    replace: bool = False


def enrol(paths: AgentPaths, join: Join, wish: Wish, *, ca_source: Callable[[str], bytes] = fetch_ca) -> Identity:
    """Enrol this device and store its identity.

    Errors: `identity.exists`, `profile.*`, `identity.ca`, `identity.tuf_root`, and what the hub says (`enrol.*`).
    """
    store = IdentityStore(paths.identity)
    if store.exists() and not wish.replace:
        raise Conflict(
            "identity.exists",
            f"This device is enrolled already, as {store.load().device_id}.",
            hint="Use --replace for a new identity, or another --state folder.",
        )
    profile = load_profile(wish.profile)
    request_name = parse_device_id(wish.device_id) if wish.device_id else None
    durable.make_dir(paths.root)
    key_pem = keys.pending_key(store)
    ca_pem = keys.only_certificate(ca_source(join.hub_url), join.ca_sha256)
    request = EnrolRequest(
        token=join.token,
        csr_pem=keys.make_csr(key_pem, request_name or _UNNAMED),
        profile=profile.name,
        device_id=request_name,
        hardware_id=wish.hardware_id,
    )
    reply = _ask(join.hub_url, ca_pem, request)
    return _keep(paths, store, join, wish, reply, key_pem)


def _ask(hub_url: str, ca_pem: str, request: EnrolRequest) -> EnrolReply:
    with HubHttp(hub_url, ca_pem) as hub:
        answer = hub.send(
            "POST",
            "/v1/device/enrol",
            body=canonical.dumps(request),
            headers={"content-type": "application/json"},
            limit_bytes=_LIMIT_BYTES,
        )
    return canonical.loads_as(answer.body, EnrolReply, limit=_LIMIT_BYTES, what="hub's answer")


def _keep(
    paths: AgentPaths, store: IdentityStore, join: Join, wish: Wish, reply: EnrolReply, key_pem: bytes
) -> Identity:
    ca_pem = keys.only_certificate(reply.hub_ca_pem.encode(), join.ca_sha256)
    root = reply.tuf_root.encode()
    if join.tuf_root_sha256 is not None and hashlib.sha256(root).hexdigest() != join.tuf_root_sha256:
        raise Untrusted(
            "identity.tuf_root",
            "The hub sent another trust root than the join string names.",
            hint="The hub may have been replaced. Ask the holders of the root keys.",
        )
    validity = keys.check_certificate(reply.certificate_pem.encode(), key_pem, reply.device_id)
    identity = Identity(
        device_id=reply.device_id,
        hub_url=join.hub_url,
        mqtt_host=reply.mqtt_host,
        mqtt_port=reply.mqtt_port,
        profile=_lasting(wish.profile),
        hardware_id=wish.hardware_id,
    )
    if root:
        durable.make_dir(paths.tuf)
        with exclusive(paths.tuf):
            MetadataStore(paths.tuf).start_from(root)
    store.install(identity, key_pem, reply.certificate_pem.encode(), ca_pem.encode(), validity)
    return identity


def _lasting(profile: str) -> str:
    """A path is made absolute, because the daemon runs somewhere else."""
    return str(Path(profile).resolve()) if "/" in profile or profile.endswith((".yaml", ".yml")) else profile
