"""A simulated device's HTTPS: bundles with real ranges and a checked digest, release metadata, the way without MQTT.

Rules: one client with the device's own certificate for one piece of work, closed after it, as the agent's worker does.
A bundle counts only when its SHA-256 is right; a transfer that is cut is resumed with Range and If-Range under the same
entity tag. Metadata is fetched as the agent's update client would (what changed since the last time), and not verified:
the hub's load is what is simulated, the verification has its own tests.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from agent.identity.store import Credentials
from agent.link.exchange import Request, Result
from agent.ota.hub_source import refusal
from scripts.fleet_sim_app.fate import Fate
from scripts.fleet_sim_app.figures import Figures
from shared import __version__, canonical, limits
from shared.errors import Unavailable, Untrusted
from shared.tls import client_context
from shared.wire.down import Assignment
from shared.wire.http import DeviceMessagesReply

__all__ = ["DeviceHttps"]

_TIMEOUT_S = 60.0
_MSGPACK = {"content-type": "application/msgpack"}
_BLOCK_BYTES = 64 * limits.KIB


class DeviceHttps:
    """One device's requests to the hub. `reachable` says whether there is a network."""

    def __init__(
        self,
        hub_url: str,
        credentials: Credentials,
        at_once: asyncio.Semaphore,
        figures: Figures,
        reachable: Callable[[], bool],
    ) -> None:
        self._hub_url = hub_url
        self._credentials = credentials
        self._at_once = at_once
        self._figures = figures
        self._reachable = reachable
        self._metadata: dict[str, int] = {}

    async def fetch(self, assignment: Assignment, fate: Fate) -> int:
        """Check the release, bring the bundle; the bytes received. Errors `hub.*`, `download.*`."""
        async with self._at_once, self._client() as client:
            await self._release(client, assignment.model)
            self._figures.downloads += 1
            return await self._bundle(client, assignment, fate)

    async def exchange(self, request: Request) -> Result:
        """Deliver messages and fetch the desired state without MQTT (the agent's seam `Fallback`)."""
        async with self._at_once, self._client() as client:
            self._figures.fallbacks += 1
            result = Result(etag=request.etag)
            if request.messages:
                body = msgspec.msgpack.encode(request.messages)
                answer = await self._send(client, "POST", "/v1/device/messages", content=body, headers=_MSGPACK)
                reply = canonical.loads_as(
                    answer.content, DeviceMessagesReply, limit=limits.MAX_JSON_BODY_BYTES, what="hub's answer"
                )
                result = msgspec.structs.replace(result, epoch=reply.epoch, watermark=reply.watermark)
            known = {"if-none-match": request.etag} if request.etag else {}
            answer = await self._send(client, "GET", "/v1/device/desired", headers=known)
            if answer.status_code == 200:
                etag = answer.headers.get("etag", "")[:256]
                result = msgspec.structs.replace(result, desired=answer.content, etag=etag)
            return result

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        if not self._reachable():
            raise Unavailable("hub.unreachable", "This device is out of reach, as the scenario says.", retriable=True)
        context = client_context(self._credentials.hub_ca)
        context.sslsocket_class = ssl.SSLSocket
        context.load_cert_chain(self._credentials.certificate, self._credentials.key)
        headers = {"user-agent": f"skerry-agent/{__version__}", "accept-encoding": "identity"}
        async with httpx.AsyncClient(
            base_url=self._hub_url, verify=context, timeout=_TIMEOUT_S, headers=headers, trust_env=False
        ) as client:
            try:
                yield client
            except httpx.HTTPError as error:
                self._figures.problem("hub.unreachable")
                why = f"The hub cannot be reached: {type(error).__name__} {error}"[:300]
                raise Unavailable("hub.unreachable", why, retriable=True) from error

    async def _send(self, client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
        self._figures.http_requests += 1
        answer = await client.request(method, path, **more)
        self._figures.downloaded_bytes += len(answer.content)
        if answer.status_code not in (200, 304):
            self._figures.problem(f"http.{answer.status_code}")
            raise refusal(answer.status_code, "what was asked for")
        return answer

    # --- release metadata ---------------------------------------------------------------------------------------------
    async def _release(self, client: httpx.AsyncClient, model: str) -> None:
        """What the update client asks for: is there a newer root, then what the timestamp says is new."""
        self._figures.http_requests += 1
        await client.get(f"/v1/tuf/{self._metadata.get('root.json', 1) + 1}.root.json")  # almost always 404
        timestamp = await self._json(client, "timestamp.json")
        version = int(timestamp["meta"]["snapshot.json"]["version"])
        if self._metadata.get("snapshot.json") == version:
            return
        snapshot = await self._json(client, f"{version}.snapshot.json")
        for name in ("targets.json", f"model-{model}.json"):
            found = snapshot["meta"].get(name)
            if found is not None and self._metadata.get(name) != int(found["version"]):
                await self._json(client, f"{found['version']}.{name}")
                self._metadata[name] = int(found["version"])
        self._metadata["snapshot.json"] = version

    async def _json(self, client: httpx.AsyncClient, name: str) -> dict[str, Any]:
        answer = await self._send(client, "GET", f"/v1/tuf/{name}")
        signed: dict[str, Any] = msgspec.json.decode(answer.content)["signed"]
        return signed

    # --- bundles ------------------------------------------------------------------------------------------------------
    async def _bundle(self, client: httpx.AsyncClient, assignment: Assignment, fate: Fate) -> int:
        pace = fate.download
        cuts = pace.cuts if pace else 0
        digest, have, tag = hashlib.sha256(), 0, ""
        for part in range(cuts + 1):
            until = assignment.bundle_bytes * (part + 1) // (cuts + 1)
            have, tag = await self._transfer(
                client, assignment, digest, have, until, tag, pace.bytes_per_s if pace else 0
            )
        if have != assignment.bundle_bytes or digest.hexdigest() != assignment.bundle_sha256:
            raise Untrusted("download.digest_mismatch", "The hub sent other bytes than were assigned.")
        return have

    async def _transfer(
        self,
        client: httpx.AsyncClient,
        assignment: Assignment,
        digest: Any,
        have: int,
        until: int,
        tag: str,
        bytes_per_s: int,
    ) -> tuple[int, str]:
        """One request, left at `until`; the bytes that are there now, and the entity tag."""
        headers = {"range": f"bytes={have}-", "if-range": tag} if have else {}
        self._figures.http_requests += 1
        self._figures.resumed += bool(have)
        path = f"/v1/artefacts/{assignment.bundle_sha256}"
        async with client.stream("GET", path, headers=headers) as answer:
            if answer.status_code != (206 if have else 200):
                self._figures.problem(f"http.{answer.status_code}")
                raise refusal(answer.status_code, "the bundle")
            async for chunk in answer.aiter_raw(_BLOCK_BYTES):
                taken = chunk[: until - have]
                digest.update(taken)
                have += len(taken)
                self._figures.downloaded_bytes += len(taken)
                if bytes_per_s:
                    await asyncio.sleep(len(taken) / bytes_per_s)
                if have >= until:
                    break
            return have, answer.headers.get("etag", "")
