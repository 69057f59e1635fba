"""A trial that goes wrong in the way that its folder is named: what a hostile or damaged model can do to the child."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Misbehave."""
    way = Path(json.loads(sys.stdin.buffer.read())["directory"]).name
    if way == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif way == "hang":
        signal.pause()
    elif way == "flood":
        while True:
            sys.stdout.buffer.write(bytes(1 << 16))
    elif way == "spin":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
        while True:
            pass
    elif way == "silence":
        sys.exit(0)
    elif way == "nonsense":
        print("[]")
    else:
        sys.exit(3)


if __name__ == "__main__":
    main()
