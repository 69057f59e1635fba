"""A hub's messaging as a process of its own, to be killed.

Usage: `python -m tests.messaging.hub_process DIR [MQTT_PORT NATS_PORT [URL]]`.

Prints `ready PID` (of the nats-server, 0 without a child) when devices are served.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.messaging.rig import Rig


async def main(directory: Path, mqtt_port: int, nats_port: int, url: str) -> None:
    rig = Rig(directory, mqtt_port=mqtt_port, nats_port=nats_port, ack_wait_s=1.0, url=url)
    async with rig.running() as runtime:
        print("ready", runtime.broker.pid if runtime.broker else 0, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    folder, *ports = sys.argv[1:]
    mqtt, nats, *where = [*ports, "0", "0"][:2] + ports[2:]
    asyncio.run(main(Path(folder), int(mqtt), int(nats), where[0] if where else ""))
