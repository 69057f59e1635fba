"""The HTTPS way to the hub, for when MQTT is blocked: a child process (`python -m agent.link.https --state DIR`).

It reads an `exchange.Request` from stdin, delivers the messages, fetches the desired state unless it is unchanged, and
writes an `exchange.Result` to stdout. It keeps nothing and touches no file but the identity's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from agent.hub_http import HubHttp
from agent.identity.store import IdentityStore
from agent.link.exchange import MAX_EXCHANGE_BYTES, Request, Result, decode_request
from agent.paths import AgentPaths
from shared import canonical, durable, limits
from shared.clock import Clock, SystemClock
from shared.errors import SkerryError
from shared.wire.http import DeviceMessagesReply

__all__ = ["exchange", "main"]

_MSGPACK = {"content-type": "application/msgpack"}


def exchange(paths: AgentPaths, request: Request, clock: Clock) -> Result:
    """Deliver and fetch; errors `identity.*`, `hub.*` and what the hub says."""
    store = IdentityStore(paths.identity)
    identity, credentials = store.load(), store.credentials()
    ca_pem = durable.read_file(credentials.hub_ca, limit=limits.MAX_KEY_FILE_BYTES).decode()
    result = Result(etag=request.etag)
    with HubHttp(identity.hub_url, ca_pem, credentials) as hub:
        if request.messages:
            body = msgspec.msgpack.encode(request.messages)
            began_s = clock.monotonic()
            answer = hub.send("POST", "/v1/device/messages", body=body, headers=_MSGPACK)
            rtt_s, wall_s = clock.monotonic() - began_s, clock.now()
            reply = canonical.loads_as(
                answer.body, DeviceMessagesReply, limit=limits.MAX_JSON_BODY_BYTES, what="hub's answer"
            )
            hub_s = None if reply.hub_s is msgspec.UNSET else reply.hub_s
            result = msgspec.structs.replace(
                result, epoch=reply.epoch, watermark=reply.watermark, rtt_s=rtt_s, hub_s=hub_s, wall_s=wall_s
            )
        known = {"if-none-match": request.etag} if request.etag else {}
        answer = hub.send(
            "GET",
            "/v1/device/desired",
            headers=known,
            limit_bytes=limits.MAX_DESIRED_STATE_BYTES,
            accept=(200, 304),
        )
        if answer.status == 200:
            result = msgspec.structs.replace(result, desired=answer.body, etag=answer.headers.get("etag", "")[:256])
    return result


def main(arguments: list[str] | None = None) -> int:
    """One exchange; a failure is part of the result, so the exit code is 0 whenever there is one."""
    parser = argparse.ArgumentParser(prog="python -m agent.link.https")
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        request = decode_request(sys.stdin.buffer.read(MAX_EXCHANGE_BYTES + 1))
        result = exchange(AgentPaths(options.state), request, SystemClock())
    except SkerryError as error:
        result = Result(error=error.body())
    sys.stdout.buffer.write(msgspec.msgpack.encode(result))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
