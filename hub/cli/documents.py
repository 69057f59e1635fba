"""Files that people write for the hub, sent as they are: the hub reads them, and names the field that is wrong."""

from __future__ import annotations

from pathlib import Path

from shared.errors import InvalidInput

__all__ = ["document_text"]


def document_text(file: Path, limit: int) -> str:
    """The text of a file of at most `limit` bytes; error `cli.file`."""
    try:
        with file.open("rb") as source:
            data = source.read(limit + 1)
        if len(data) > limit:
            raise InvalidInput("cli.file", f"{file} has more than {limit} bytes.")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("cli.file", f"Cannot read {file}: {error}.", hint="Check the path.") from error
