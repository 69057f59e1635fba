"""`skerry-agent install`: an installation from a folder, by the running agent or, when none runs, by this process.

Rules: the same installer does it either way, so the checks, the probe and the probation are the same, and the reports
wait in the same outbox for the hub. Without a running agent the folder's lock is held meanwhile, so that none starts.
Stopped half way, the agent takes the installation up at its next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

from agent import lock
from agent.local_client import LocalAgent
from agent.paths import AgentPaths
from shared import durable
from shared.errors import SkerryError, Unavailable, Untrusted

__all__ = ["install_folder"]

Offers: TypeAlias = Sequence[Mapping[str, Any]]
Said: TypeAlias = Callable[[str], None]
_RESTS = ("idle", "committed", "rolled_back", "inconsistent")
_ASK_TIMEOUT_S = 1800.0
_POLL_S = 0.25
_PATIENCE_S = 3600.0


def install_folder(paths: AgentPaths, folder: Path, *, wait: bool, say: Said) -> dict[str, Any]:
    """Install what `folder` has for this device, and wait for the end unless the running agent is to go on alone.

    Returns `offers` and, by model, `models` (status as of `skerry-agent status`). Errors: `install.*`, and what the
    first refused assignment was refused for.
    """
    whole = str(folder.absolute())
    try:
        with LocalAgent(paths.socket, timeout_s=_ASK_TIMEOUT_S) as agent:
            offers: Offers = agent.post("/skerry/install", {"folder": whole})
            say("The running agent installs.")
            models = _followed(agent, offers) if wait else []
    except SkerryError as error:
        if error.code != "agent.not_running":
            raise
        say("No agent runs; this command installs. Reports wait for the hub until the agent runs.")
        offers, models = _alone(paths, whole)
    return _judged(offers, models)


def _judged(offers: Offers, models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    answer = {"offers": list(offers), "models": list(models)}
    for offer in offers:
        if offer["outcome"] == "refused":
            error = offer["error"]
            raise Untrusted(error["code"], error["message"], hint=error.get("hint", ""), detail=answer)
    for model in models:
        wanted = next(offer["version"] for offer in offers if offer["model"] == model["model"])
        if model["state"] != "committed" or model["active_version"] != wanted:
            raise Untrusted(
                model["reason_code"] or "install.failed",
                f"{model['model']} {wanted} was not installed: {model['reason'] or model['state']}",
                hint="What served before serves on. `skerry-agent history` says more.",
                detail=answer,
            )
    return answer


def _unsettled(offers: Offers, models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models whose accepted assignment has not come to rest."""
    stands = {model["model"]: model for model in models}
    found = []
    for offer in offers:
        if offer["outcome"] != "accepted":
            continue
        model = stands.get(offer["model"])
        if model is None or model["state"] not in _RESTS or model["assignment_counter"] < offer["counter"]:
            found.append(offer["model"])
    return found


def _named(offers: Offers, models: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    names = {offer["model"] for offer in offers if offer["outcome"] == "accepted"}
    return [model for model in models if model["model"] in names]


def _followed(agent: LocalAgent, offers: Offers) -> list[Mapping[str, Any]]:
    until = time.monotonic() + _PATIENCE_S
    while True:
        models: list[Mapping[str, Any]] = agent.get("/skerry/status")["models"]
        if not (left := _unsettled(offers, models)):
            return _named(offers, models)
        if time.monotonic() > until:
            raise _slow(left)
        time.sleep(_POLL_S)


def _slow(left: Sequence[str]) -> Unavailable:
    return Unavailable(
        "install.slow",
        f"The installation of {', '.join(left)} has not ended after {_PATIENCE_S:.0f} s.",
        hint="It goes on when the agent runs; see `skerry-agent status`.",
        retriable=True,
    )


def _alone(paths: AgentPaths, folder: str) -> tuple[Offers, list[Mapping[str, Any]]]:
    from agent.identity.owner import hand_over
    from agent.identity.store import IdentityStore

    IdentityStore(paths.identity).load()  # a folder that is no device's stays untouched
    durable.make_dir(paths.run, mode=0o750)
    try:
        with lock.hold(paths.lock):
            return asyncio.run(_install_here(paths, folder))
    finally:
        hand_over(paths.root)


async def _install_here(paths: AgentPaths, folder: str) -> tuple[Offers, list[Mapping[str, Any]]]:
    from agent.identity.store import IdentityStore
    from agent.inference.host import ModelHost
    from agent.ota.installer import Installer
    from agent.ota.ports import Host
    from agent.outbox.outbox import Outbox
    from agent.settings import ENVIRONMENT_PREFIX, AgentSettings
    from shared.clock import SystemClock
    from shared.profiles import load_profile
    from shared.settings import load_settings

    file = paths.settings if paths.settings.exists() else None
    settings = load_settings(AgentSettings, file, ENVIRONMENT_PREFIX, {})
    identity, clock = IdentityStore(paths.identity).load(), SystemClock()
    profile = load_profile(identity.profile)
    host = ModelHost(threads=profile.threads)
    outbox = Outbox(
        paths.outbox,
        device_id=identity.device_id,
        limit_bytes=settings.outbox_bytes or profile.outbox_bytes,
        clock=clock,
    )
    await outbox.start()
    installer = Installer(paths, profile, cast(Host, host), outbox.post, clock, settings.ota, keep=outbox.put)
    try:
        await installer.recover()
        return await _run(installer.run, lambda: _offered(installer, folder), lambda: _statuses(installer))
    finally:
        await outbox.close()
        host.close()


async def _offered(installer: Any, folder: str) -> Offers:
    found: Offers = msgspec.to_builtins(await installer.install_folder(folder))
    return found


def _statuses(installer: Any) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = msgspec.to_builtins(installer.status())
    return found


async def _run(
    run: Callable[[], Awaitable[None]],
    offer: Callable[[], Awaitable[Offers]],
    statuses: Callable[[], list[Mapping[str, Any]]],
) -> tuple[Offers, list[Mapping[str, Any]]]:
    """Let the installer run until what was offered has come to rest."""
    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)  # it is entered, so that ending it is an orderly stop
    try:
        offers = await offer()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while _unsettled(offers, statuses()) and not task.done():  # noqa: ASYNC110 - the status is a plain value
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise _slow(_unsettled(offers, statuses())) from error
        return offers, _named(offers, statuses())
    finally:
        task.cancel()
        await asyncio.wait({task})
