"""A training process that looks around as far as it can, and says what it found."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from agent.training.protocol import Ended, Start, decode_from_daemon, frame, read
from shared.errors import ErrorBody
from shared.sandbox.confine import confine


def tried(act: Callable[[], object]) -> str:
    try:
        act()
    except PermissionError:
        return "refused"
    except OSError as error:
        return repr(error)
    return "done"


def main() -> None:
    start = decode_from_daemon(read(sys.stdin.buffer) or b"")
    assert isinstance(start, Start)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        confine(start.confinement)
        state = Path(start.state).parent
        found = [
            f"identity {tried(lambda: Path(start.key).read_bytes())}",
            f"desired {tried(lambda: (state / 'desired.msgpack').write_bytes(b''))}",
            f"other port {tried(lambda: socket.create_connection(('127.0.0.1', port), 1))}",
            f"program {tried(os.fork)}",
            f"slot {tried(lambda: (Path(start.directory) / 'manifest.json').read_bytes()).replace('done', 'read')}",
        ]
    error = ErrorBody(code="training.pried", message=", ".join(found))
    sys.stdout.buffer.write(frame(Ended(error=error)))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
