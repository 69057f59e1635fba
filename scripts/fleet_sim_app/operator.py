"""The person at the hub: its HTTPS API with an administrator's token."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from shared.errors import Conflict, InvalidInput, Unavailable

__all__ = ["Operator"]

_TIMEOUT_S = 120.0


class Operator:
    """One client of the people's API. Errors: `sim.hub` with what the hub said, `sim.unreachable`."""

    def __init__(self, url: str, token: str, ca_file: Path) -> None:
        self.url = url
        self.ca_file = ca_file
        try:
            context = ssl.create_default_context(cafile=str(ca_file))
        except OSError as error:
            raise InvalidInput("sim.ca", f"{ca_file} is not a CA certificate: {error}.") from error
        self._client = httpx.AsyncClient(
            base_url=url,
            verify=context,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        """The answer of a GET."""
        return await self._call("GET", path, params=query)

    async def post(self, path: str, body: Any) -> Any:
        """The answer of a POST."""
        return await self._call("POST", path, json=body)

    async def _call(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = await self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise Unavailable("sim.unreachable", f"{self.url} cannot be reached: {error!r}."[:300]) from error
        if answer.is_error:
            raise Conflict("sim.hub", f"{method} {path}: the hub answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    async def until(self, path: str, ends: Any, *, timeout_s: float, every_s: float = 0.5) -> Any:
        """Ask until `ends(answer)` holds; the answer. `sim.too_long` after `timeout_s`, with the last answer."""
        found: Any = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    found = await self.get(path)
                    if ends(found):
                        return found
                    await asyncio.sleep(every_s)
        except TimeoutError as error:
            raise Unavailable("sim.too_long", f"{path} did not end within {timeout_s:.0f} s: {found}"[:1000]) from error
