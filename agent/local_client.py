"""The command line's way to the running agent: HTTP over its Unix socket, with the standard library only."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from shared import limits
from shared.errors import Conflict, Forbidden, InvalidInput, NotFound, SkerryError, TooLarge, Unavailable

__all__ = ["LocalAgent"]

_FAMILIES: dict[int, type[SkerryError]] = {403: Forbidden, 404: NotFound, 409: Conflict, 413: TooLarge}


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a socket file."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class LocalAgent:
    """The agent that serves the given socket."""

    def __init__(self, socket_path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = socket_path
        self._connection = _UnixConnection(socket_path, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """JSON of a POST with a JSON body."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def send(self, path: str, data: bytes) -> Any:
        """JSON of a POST with a MessagePack body."""
        return self._ask("POST", path, data, "application/msgpack")

    def _ask(self, method: str, path: str, body: bytes | None, kind: str = "application/json") -> Any:
        headers = {"content-type": kind} if body is not None else {}
        try:
            self._connection.request(method, path, body=body, headers=headers)
            answer = self._connection.getresponse()
            data = answer.read(limits.MAX_INFER_BODY_BYTES + 1)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Unavailable(
                "agent.not_running",
                "The agent is not running on this device.",
                hint=f"Start it with `skerry-agent run` or `systemctl start skerry-agent`; looked for {self._path}.",
            ) from error
        except PermissionError as error:
            raise Forbidden(
                "agent.no_access",
                f"You may not use the agent's socket {self._path}.",
                hint="Use sudo, or become a member of the group that runs the agent.",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("agent.no_answer", f"The agent does not answer: {error}.", retriable=True) from error
        return self._result(answer.status, data)

    def _result(self, status: int, data: bytes) -> Any:
        try:
            value = json.loads(data) if data else None
        except ValueError as error:
            raise Unavailable("agent.no_answer", "The agent's answer cannot be read.") from error
        if status >= 400:
            raise _refusal(status, value)
        return value


def _refusal(status: int, value: Any) -> SkerryError:
    """The agent's error; the prediction protocols have text where the rest has an object."""
    said = value.get("error") if isinstance(value, dict) else None
    family = _FAMILIES.get(status, Unavailable if status >= 500 else InvalidInput)
    if isinstance(said, dict):
        code, message, hint = (str(said.get(name, "")) for name in ("code", "message", "hint"))
        return family(code or "agent.refused", message, hint=hint, retriable=bool(said.get("retriable")))
    named = value.get("code") if isinstance(value, dict) else None
    return family(str(named or "agent.refused"), str(said or f"The agent answered with status {status}."))
