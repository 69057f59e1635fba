"""Renewal of the device's certificate with a new key: a child process of the daemon (`python -m agent.identity.renew`).

Rules: the new key is stored before the request leaves; key and certificate are switched together; the certificate in
use stays valid at the hub until the new one is first used, so a lost answer costs a repetition and nothing else.
It prints one line of JSON: the new validity, or `{"error": {...}}` with the exit code of the error's family.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from agent.hub_http import HubHttp
from agent.identity import keys
from agent.identity.store import IdentityStore, Validity
from agent.paths import AgentPaths
from shared import canonical, durable, limits
from shared.errors import EXIT_CODES, SkerryError
from shared.wire.http import RenewReply, RenewRequest

__all__ = ["main", "renew"]


def renew(paths: AgentPaths) -> Validity:
    """Get and install a new certificate; errors `identity.*`, `hub.*` and what the hub says."""
    store = IdentityStore(paths.identity)
    identity = store.load()
    key_pem = keys.pending_key(store)
    request = RenewRequest(csr_pem=keys.make_csr(key_pem, identity.device_id))
    credentials = store.credentials()
    ca_pem = durable.read_file(credentials.hub_ca, limit=limits.MAX_KEY_FILE_BYTES).decode()
    with HubHttp(identity.hub_url, ca_pem, credentials) as hub:
        json = {"content-type": "application/json"}
        answer = hub.send("POST", "/v1/device/renew", body=canonical.dumps(request), headers=json)
    reply = canonical.loads_as(answer.body, RenewReply, limit=limits.MAX_JSON_BODY_BYTES, what="hub's answer")
    certificate = reply.certificate_pem.encode()
    validity = keys.check_certificate(certificate, key_pem, identity.device_id)
    store.switch(key_pem, certificate, validity)
    return validity


def main(arguments: list[str] | None = None) -> int:
    """Renew for the state folder on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agent.identity.renew")
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        validity = renew(AgentPaths(options.state))
    except SkerryError as error:
        sys.stdout.write(msgspec.json.encode({"error": error.body()}).decode() + "\n")
        return EXIT_CODES[error.family]
    sys.stdout.write(msgspec.json.encode(validity).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
