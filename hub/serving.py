"""The running hub: every long-lived part as a named task of one group; when one fails, all end.

`stop` ends it in order: no new requests, those in progress finish, then the parts behind them.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable

from hub.api.server import HttpsServer
from hub.monitoring.history import EVERY_S
from hub.scheduler import PeriodicTask, Scheduler
from hub.wiring import Hub

__all__ = ["periodic_tasks", "prepare_interpreter", "serve", "stop_on_signals"]

_SWITCH_S = 0.001
"""How long a busy thread may keep the interpreter while others wait for it. Each statement of a transaction lets go of
it once; with the interpreter's own 5 ms a report waits that long several times while assignments are being signed."""
_MINUTE_S = 60.0
_HOUR_S = 3600.0
_ROLLOUTS_S = 2.0
_DRIFT_S = 10.0
_ALERTS_S = 5.0
_TRIGGERS_S = 20.0  # well below the step that counts as a clock that was set
_DEPLOY_S = 10.0


def periodic_tasks(hub: Hub) -> list[PeriodicTask]:
    """Singleton work: one hub of several does it (`hub.scheduler`)."""
    every_s = min(hub.settings.trust.refresh_s, _MINUTE_S)
    period_s = hub.settings.monitoring.period_s
    return [
        PeriodicTask("trust", every_s, lambda: hub.trust.refresh_online(hub.clock.now())),
        PeriodicTask("assignments", _HOUR_S, hub.assignments.reissue_expiring),
        PeriodicTask("rollouts", _ROLLOUTS_S, hub.rollout_engine.run),
        PeriodicTask("health", _HOUR_S, hub.health_retention.prune),
        PeriodicTask("drift", min(_DRIFT_S, period_s / 4), hub.evaluation.run),
        PeriodicTask("device-history", EVERY_S, hub.device_history.run),
        PeriodicTask("deserted-alerts", min(_DRIFT_S, period_s / 4), hub.alerts.resolve_deserted),
        PeriodicTask("alerts", min(_ALERTS_S, period_s / 4), hub.alerts.deliver_due),
        PeriodicTask("train-triggers", _TRIGGERS_S, hub.policies.train.run),
        PeriodicTask("deploy-policies", _DEPLOY_S, hub.policies.deploy.run),
        PeriodicTask("training-answers", _HOUR_S, hub.federated.prune),
        PeriodicTask("old-alerts", _HOUR_S, hub.alerts.prune),
        PeriodicTask("windows", _HOUR_S, hub.window_retention.prune),
        PeriodicTask("garbage", hub.settings.retention.every_s, lambda: hub.garbage.run("hub", dry_run=False)),
    ]


def prepare_interpreter() -> None:
    """So that no thread waits long for another: often changed, and what was loaded at the start is not garbage.

    With the libraries' objects in it, a full collection of the garbage stops all threads for 150 ms, every few seconds.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()


async def _renew_leaves(server: HttpsServer) -> None:
    """Every hub presents its own certificate, so this is no singleton work."""
    while True:
        await asyncio.sleep(_HOUR_S)
        await asyncio.to_thread(server.renew_certificate)


async def serve(hub: Hub, sock: socket.socket, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Run the hub on a listening socket until `stop` is set; `on_ready` is called when people and devices are heard.

    Errors of the start: `broker.*`.
    """
    server = HttpsServer(hub, sock)
    scheduler = Scheduler(hub.db, hub.clock, periodic_tasks(hub))
    prepare_interpreter()
    async with asyncio.TaskGroup() as group:
        behind = [
            group.create_task(hub.messaging.run(), name="messaging"),
            group.create_task(scheduler.run(), name="scheduler"),
            group.create_task(hub.delta_loop.run(), name="deltas"),
            group.create_task(hub.federated_loop.run(lambda: scheduler.leading), name="federated"),
            group.create_task(_renew_leaves(server), name="certificates"),
            group.create_task(_announce(hub, server, on_ready), name="announce"),
        ]
        front = group.create_task(server.run(), name="https")
        await stop.wait()
        server.stop()
        await front
        for task in behind:
            task.cancel()


async def _announce(hub: Hub, server: HttpsServer, on_ready: Callable[[], None]) -> None:
    await server.wait_started()
    await hub.messaging.ready.wait()
    on_ready()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGINT and SIGTERM; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
