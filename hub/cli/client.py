"""The hub's API as the commands use it: JSON in and out, files up and down with progress, every failure one of ours.

The certificate is always checked: against the CA file when there is one, else against the system's. Answers are
bounded; a download appears under its name only after its digest is right.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from hub.cli.answers import error_of, parse_json
from hub.cli.config import Connection
from shared import __version__
from shared.errors import InternalError, InvalidInput, StorageFailure, TooLarge, Unavailable, Untrusted
from shared.limits import MIB

__all__ = ["HubClient", "Progress"]

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_CHUNK_BYTES = 256 * 1024
_MAX_ANSWER_BYTES = 32 * MIB
_TIMEOUT_S = 60.0
_NOT_MODIFIED = 304


def _no_progress(_done: int, _total: int) -> None:
    return None


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            "cli.ca_file", f"The CA file {ca} cannot be used: {error}.", hint="Give the hub's ca.crt with --ca."
        ) from error


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HubClient:
    """One connection to one hub; a context manager. Paths begin with `/v1/`."""

    def __init__(self, connection: Connection, transport: httpx.BaseTransport | None = None) -> None:
        self.url = connection.url
        headers = {"User-Agent": f"skerry-cli/{__version__}"}
        if connection.token:
            headers["Authorization"] = f"Bearer {connection.token}"
        self._http = httpx.Client(
            base_url=connection.url,
            headers=headers,
            verify=_tls(connection.ca),
            timeout=httpx.Timeout(_TIMEOUT_S, connect=10.0),
            transport=transport,
            trust_env=not _is_loopback(connection.url),  # a proxy cannot reach this machine's own loopback
        )

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # --- JSON -------------------------------------------------------------------------------------------------------
    def get(self, path: str, **query: Any) -> Any:
        """The answer to GET; `None` values in the query are left out."""
        return self._json("GET", path, query=query)

    def post(self, path: str, body: Any = None, *, timeout_s: float = _TIMEOUT_S, **query: Any) -> Any:
        """The answer to POST with a JSON body."""
        return self._json("POST", path, body=body, query=query, timeout_s=timeout_s)

    def post_text(self, path: str, text: str, **query: Any) -> Any:
        """The answer to POST with a document (YAML or JSON) as it is."""
        return self._text("POST", path, text, query)

    def put_text(self, path: str, text: str, **query: Any) -> Any:
        """The answer to PUT with a document (YAML or JSON) as it is."""
        return self._text("PUT", path, text, query)

    def _text(self, method: str, path: str, text: str, query: Mapping[str, Any]) -> Any:
        kind = "application/json" if text.lstrip().startswith("{") else "application/yaml"
        with self._stream(method, path, query, content=text.encode(), headers={"Content-Type": kind}) as response:
            return parse_json(_read(response, _MAX_ANSWER_BYTES), path)

    def get_changed(self, path: str, tag: str | None) -> tuple[Any, str | None]:
        """The answer to GET with its tag; None when nothing has changed since the answer with `tag`."""
        headers = {} if tag is None else {"If-None-Match": tag}
        with self._stream("GET", path, {}, headers=headers) as response:
            if response.status_code == _NOT_MODIFIED:
                return None, tag
            return parse_json(_read(response, _MAX_ANSWER_BYTES), path), response.headers.get("ETag")

    def put(self, path: str, body: Any = None, **query: Any) -> Any:
        """The answer to PUT with a JSON body."""
        return self._json("PUT", path, body=body, query=query)

    def patch(self, path: str, body: Any = None, **query: Any) -> Any:
        """The answer to PATCH with a JSON body."""
        return self._json("PATCH", path, body=body, query=query)

    def delete(self, path: str, **query: Any) -> Any:
        """The answer to DELETE."""
        return self._json("DELETE", path, query=query)

    def pages(self, path: str, *, limit: int | None = None, **query: Any) -> Iterator[Any]:
        """The items of a paged list, page after page; at most `limit` of them when it is given."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            page = self.get(path, cursor=cursor, limit=min(left, 200) if left is not None else 200, **query)
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise InternalError("hub.unexpected_answer", f"The hub's answer to {path} is not a list.")
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            if not page.get("next") or page["next"] == cursor:
                return
            cursor = page["next"]

    # --- bytes ------------------------------------------------------------------------------------------------------
    def get_bytes(self, path: str, *, limit: int, **query: Any) -> bytes:
        """The raw answer to GET, of at most `limit` bytes."""
        with self._stream("GET", path, query) as response:
            return _read(response, limit)

    def put_bytes(self, path: str, data: bytes, **query: Any) -> Any:
        """The JSON answer to PUT with raw bytes as the body."""
        headers = {"Content-Type": "application/octet-stream"}
        with self._stream("PUT", path, query, content=data, headers=headers) as response:
            return parse_json(_read(response, _MAX_ANSWER_BYTES), path)

    def upload(self, path: str, file: Path, progress: Progress = _no_progress, **query: Any) -> Any:
        """The JSON answer to PUT with the content of a file as the body; error `cli.file`."""
        try:
            total = file.stat().st_size
            source = file.open("rb")
        except OSError as error:
            raise InvalidInput("cli.file", f"Cannot read {file}: {error.strerror}.", hint="Check the path.") from error

        def chunks() -> Iterator[bytes]:
            done = 0
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
                done += len(chunk)
                progress(done, total)

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(total)}
        with source, self._stream("PUT", path, query, content=chunks(), headers=headers, timeout_s=300) as response:
            return parse_json(_read(response, _MAX_ANSWER_BYTES), path)

    def download(self, path: str, out: Path, *, sha256: str, progress: Progress = _no_progress) -> int:
        """Write the answer to GET to `out` once its digest is `sha256`; bytes written. Error `cli.digest_mismatch`."""
        temporary = out.with_name(f".{out.name}.part")
        digest, done = hashlib.sha256(), 0
        try:
            with self._stream("GET", path, {}) as response, temporary.open("wb") as target:
                total = int(response.headers.get("Content-Length", 0))
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    digest.update(chunk)
                    done += target.write(chunk)
                    progress(done, total)
            if digest.hexdigest() != sha256:
                raise Untrusted(
                    "cli.digest_mismatch",
                    f"What arrived is not {sha256}; nothing was kept.",
                    hint="Try again.",
                    retriable=True,
                )
            os.replace(temporary, out)
        except OSError as error:
            raise StorageFailure("cli.file", f"Cannot write {out}: {error.strerror or error}.") from error
        finally:
            temporary.unlink(missing_ok=True)
        return done

    # --- below ------------------------------------------------------------------------------------------------------
    def _json(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any], timeout_s: float = _TIMEOUT_S
    ) -> Any:
        options: dict[str, Any] = {} if body is None else {"json": body}
        with self._stream(method, path, query, timeout_s=timeout_s, **options) as response:
            return parse_json(_read(response, _MAX_ANSWER_BYTES), path)

    @contextmanager
    def _stream(
        self, method: str, path: str, query: Mapping[str, Any], *, timeout_s: float = _TIMEOUT_S, **options: Any
    ) -> Iterator[httpx.Response]:
        """A response that says success; every other outcome is raised as an error of ours."""
        given = {key: value for key, value in query.items() if value is not None}
        timeout = httpx.Timeout(timeout_s, connect=10.0)
        try:
            with self._http.stream(method, path, params=given, timeout=timeout, **options) as response:
                if response.status_code >= 300 and response.status_code != _NOT_MODIFIED:
                    raise error_of(response.status_code, _read(response, _MAX_ANSWER_BYTES), self.url)
                yield response
        except httpx.TimeoutException as error:
            raise Unavailable(
                "hub.timeout", f"The hub at {self.url} did not answer in time.", hint="Try again.", retriable=True
            ) from error
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error


def _read(response: httpx.Response, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > limit:
            raise TooLarge("hub.answer_too_large", f"The hub's answer has more than {limit} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def _unreachable(url: str, error: httpx.HTTPError) -> Unavailable | Untrusted:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Untrusted(
                "hub.certificate",
                f"The certificate of {url} is not trusted: {cause.verify_message}.",
                hint="Give the hub's CA with --ca or SKERRY_CA, or run `skerry config login` again.",
            )
        cause = cause.__cause__ or cause.__context__
    return Unavailable(
        "hub.unreachable",
        f"The hub at {url} cannot be reached: {error}.",
        hint="Check the address, and that `skerry-hub serve` runs there.",
        retriable=True,
    )
