"""A run through what ships: the worker process, Flower with TLS, and devices with the agent's own node and training."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from numpy.typing import NDArray

from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.flower.superlink import Tls
from hub.federated.protocol import Abandoned, Ask, Begin, Complete, FromWorker, Listening, Participant
from hub.federated.report import RoundReport
from hub.federated.run import definition_digest
from hub.federated.runner import RunProcess, worker_command
from tests.bench.federated import devices
from tests.bench.federated.setting import Ran, Ready, Setting
from tests.federated.certificate import make_tls
from tests.ports import free_port

__all__ = ["Stage", "run_real"]

Vector = NDArray[np.float32]
_TICKS = os.sysconf("SC_CLK_TCK")


def run_real(setting: Setting, processes: int = 1) -> Ran:
    """The run, with its devices in so many processes."""
    with setting.prepared() as ready:
        return Stage(setting, ready, processes).run()


class Stage:
    """The hub's part and the devices'."""

    def __init__(self, setting: Setting, ready: Ready, processes: int) -> None:
        self._setting = setting
        self._ready = ready
        self._processes = processes
        self._tls: Tls = make_tls(ready.folder)
        self._log = ready.folder / "times.jsonl"
        self._process = RunProcess(worker_command(sys.executable), ready.folder / "worker", self._heard)
        self._running: list[subprocess.Popen[bytes]] = []
        self._participants, self._shares = self._keys()
        self._weights: list[Vector] = []
        self._reports: list[RoundReport] = []
        self._mib: list[float] = []
        self._cpu_s: list[float] = []

    def run(self) -> Ran:
        """The whole run."""
        setting = self._setting
        first = Checkpoint(
            run_id="f-000000000001",
            definition=definition_digest(setting.definition),
            seed=setting.definition.seed,
            round_no=0,
            weights=setting.first,
        )
        begin = Begin(
            definition=setting.definition,
            sizes=setting.sizes,
            checkpoint=write_checkpoint(first),
            participants=self._participants,
            host="127.0.0.1",
            port=free_port(),
            certificate=str(self._tls.certificate),
            key=str(self._tls.key),
            ca=str(self._tls.ca),
        )
        begun = time.monotonic()
        try:
            ended = self._process.run(begin)
        finally:
            self._leave()
        if ended.error is not None:
            print(f"the run failed: {ended.error.code}: {ended.error.message}", file=sys.stderr)
        return Ran(
            end=ended.end,
            weights=self._weights,
            reports=self._reports,
            seconds=round(time.monotonic() - begun, 1),
            times=self._times(),
            worker_cpu_s=self._cpu_s,
            worker_mib=self._mib,
        )

    def _keys(self) -> tuple[list[Participant], list[devices.Share]]:
        participants, shares = [], []
        for share in self._setting.shares:
            key = ec.generate_private_key(ec.SECP256R1())
            file = self._ready.folder / f"{share.device_id}.key"
            file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            participants.append(Participant(device_id=share.device_id, public_key=public, samples=len(share.y)))
            if share.behaviour != "absent":
                samples = str(self._ready.samples(share.device_id))
                shares.append(
                    devices.Share(device_id=share.device_id, key=str(file), samples=samples, behaviour=share.behaviour)
                )
        return participants, shares

    def _heard(self, message: FromWorker) -> None:
        match message:
            case Listening(port=port):
                self._leave()
                self._come(port)
            case Ask(device_ids=device_ids):
                self._offer(device_ids)
            case Complete(report=report, checkpoint=checkpoint):
                self._reports.append(report)
                self._weights.append(read_checkpoint(checkpoint).weights)
                self._measure()
            case Abandoned(report=report):
                self._reports.append(report)

    def _come(self, port: int) -> None:
        for number in range(self._processes):
            plan = devices.Plan(
                address=f"127.0.0.1:{port}",
                ca=str(self._tls.ca),
                bundle=str(self._ready.bundle),
                folder=str(self._ready.folder),
                log=str(self._log),
                shares=self._shares[number :: self._processes],
            )
            file = self._ready.folder / f"plan-{number}.json"
            file.write_bytes(msgspec.json.encode(plan))
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.bench.federated.devices", str(file)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def _offer(self, device_ids: Sequence[str]) -> None:
        line = msgspec.json.encode(device_ids) + b"\n"
        for process in self._running:
            if process.stdin is not None:
                process.stdin.write(line)
                process.stdin.flush()

    def _leave(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def _measure(self) -> None:
        """What the worker has used until now."""
        child = self._process._child
        if child is None:
            return
        with contextlib.suppress(OSError):  # it has just ended
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            self._cpu_s.append((int(fields[11]) + int(fields[12])) / _TICKS)
            status = Path(f"/proc/{child.pid}/status").read_text()
            self._mib.append(round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1))

    def _times(self) -> dict[int, dict[str, float]]:
        found: dict[int, dict[str, float]] = {}
        lines: Sequence[str] = self._log.read_text().splitlines() if self._log.exists() else []
        for line in map(json.loads, lines):
            found.setdefault(line["round"], {})[line["device"]] = line["seconds"]
        return found
