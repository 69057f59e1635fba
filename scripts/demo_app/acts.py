"""The acts of the demo, in order. Each leaves its figures in `stage.facts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scripts.demo_app import federated
from scripts.demo_app.dirty_lens import DIRTY, dirty_lens
from scripts.demo_app.predictions import Application, SteadyLoad
from scripts.demo_app.processes import DemoFailed, wait_until
from scripts.demo_app.stage import Device, Stage
from scripts.demo_app.train import Parts, gate_policy, train, write_broken_bundle, write_held_out, write_parts
from shared import canonical

__all__ = ["ACTS", "Act"]

T = TypeVar("T")
_ROOT_KEYS = ("root-1", "root-2", "root-3")
_REVIEWERS = ("alice", "bob", "carol")
_IMAGES = 300
_LEARNING = ("device-1", "device-3", "device-4")  # by their profiles; the others are too small for it, or pay for bytes
_ROLLOUT = """\
model: {model}
version: {version}
targets: {{filter: all}}
groups:
  - {{name: canary, devices: [device-1]}}
  - {{name: rest, percent: 100}}
each_group: {{success_percent: 100, max_failures: 0, bake_s: 1s}}
gates:                                         # what devices report while applications ask
  - {{metric: error_rate, operator: "<=", threshold: 1%, window_s: 5m, min_sample: 100}}
on_failure: roll_back
"""


@dataclass(frozen=True, slots=True)
class Act:
    """A title, a sentence, and what happens."""

    title: str
    text: str
    play: Callable[[Stage], None]

    def run(self, stage: Stage) -> None:
        """Play it."""
        stage.screen.act(self.title, self.text)
        self.play(stage)


def _hub_and_people(stage: Stage) -> None:
    with stage.screen.step("starting the hub: HTTPS, SQLite, file blobs, message broker"):
        stage.start_hub()
    with stage.screen.step("six people make a key each: three hold the root, three review models"):
        _at_once(
            lambda name: stage.skerry("keys", "create", name, "--dir", str(stage.keys), show=name == _ROOT_KEYS[0]),
            (*_ROOT_KEYS, *_REVIEWERS),
        )
    with stage.screen.step("two of three root keys sign who may say what; the hub holds none of them"):
        stage.skerry(
            "trust", "init", "--threshold", "2", *_options("--root-key", [_key(stage, n) for n in _ROOT_KEYS[:2]]),
            "--root-key", _public(stage, _ROOT_KEYS[2]), "--out", str(stage.keys / "root.json"),
        )  # fmt: skip
    gate = stage.folder / "gate.json"
    gate.write_bytes(canonical.dumps(gate_policy(stage.data)))
    with stage.screen.step("a model needs two signatures of three reviewers"):
        stage.skerry(
            "models", "create", stage.model, "--gate", str(gate), "--probation", "2s", "--threshold", "2",
            *_options("--reviewer", [_public(stage, n) for n in _REVIEWERS]),
            *_options("--sign-with", [_key(stage, n) for n in _ROOT_KEYS[:2]]),
        )  # fmt: skip


def _enrol(stage: Stage) -> None:
    stage.add_devices()

    def join(device: Device) -> None:
        first = device is stage.devices[0]
        made = stage.skerry(
            "devices", "token", "--device", device.name, "--profile", device.profile,
            "--root", str(stage.keys / "root.json"), show=first,
        )  # fmt: skip
        state = ("--profile", str(stage.day_profile(device)), "--state", str(device.state))
        stage.agent("enrol", made["join"], *state, show=first)

    with stage.screen.step("five profiles; each key is made on its device, each certificate by the hub"):
        _at_once(join, stage.devices)
    with stage.screen.step("five agents start, and every one is connected over mutual TLS"):
        for device in stage.devices:
            stage.start_agent(device)
        wait_until(lambda: _online(stage) == len(stage.devices), what="all devices to report", timeout_s=60)


def _first_version(stage: Stage) -> None:
    with stage.screen.step(f"training on a tenth of the real data ({stage.data.title}), quantising to int8"):
        parts = train(stage.data, share=0.1, seed=1, log=stage.children.log("training"))
    write_held_out(stage.data, stage.folder / "held-out.npz")
    _release(stage, parts, 1)
    _deploy(stage, 1)
    _measure(stage, 1)


def _second_version(stage: Stage) -> None:
    with stage.screen.step("training on all of the data, quantising to int8"):
        parts = train(stage.data, share=1.0, seed=2, log=stage.children.log("training"))
    _release(stage, parts, 2)
    loads = _steady_load(stage)
    try:
        rollout = _roll_out(stage, 2)
        if _states(stage, rollout) != {"succeeded": len(stage.devices)}:
            raise DemoFailed(f"Version 2 did not reach every device: {rollout['groups']}")
        stage.skerry("versions", "promote", stage.model, "2", "--reason", "demo", show=False)
        _third_version(stage, parts)
    finally:
        for load in loads:
            load.stop()
    _judge_load(stage, loads)
    _measure(stage, 2)


def _third_version(stage: Stage, parts: Parts) -> None:
    stage.screen.act(
        "A broken version",
        "Version 3's own test vectors do not match its model. One device finds out; four never see it.",
    )
    bundle = stage.folder / "v3.bundle"
    write_broken_bundle(parts, stage.data, bundle, version=3)
    stage.skerry("versions", "register", stage.model, "--bundle", str(bundle))
    _gate_and_sign(stage, 3, show=False)
    rollout = _roll_out(stage, 3, stops=True)
    if rollout["status"] != "rolled_back" or _states(stage, rollout) != {"rolled_back": 1, "waiting": 4}:
        raise DemoFailed(f"Version 3 was not stopped in the canary: {rollout['status']}, {rollout['groups']}")
    (failure,) = rollout["failures"]
    (canary,) = failure["examples"]
    stage.show("rollout", "explain", canary)
    stage.facts["refused"] = {canary: failure["reason_code"]}


def _roll_out(stage: Stage, version: int, *, stops: bool = False) -> dict[str, Any]:
    """A canary of one device, then the others; how it stands when it ended."""
    file = stage.folder / f"rollout-{version}.yaml"
    file.write_text(_ROLLOUT.format(model=stage.model, version=version))
    if not stops:
        stage.screen.text(file.read_text())
    stage.follow("rollout", "create", str(file), "--watch", code=5 if stops else 0)
    (newest, *_) = stage.skerry("rollout", "list", "--model", stage.model, show=False)
    found: dict[str, Any] = stage.skerry("rollout", "show", newest["rollout_id"], show=False)
    stage.facts[f"rollout_{version}"] = {"status": found["status"], "devices": _states(stage, found)}
    return found


def _states(stage: Stage, rollout: dict[str, Any]) -> dict[str, int]:
    """Devices of a rollout by their state."""
    states = [row["state"] for row in stage.skerry("rollout", "devices", rollout["rollout_id"], show=False)]
    return {state: states.count(state) for state in sorted(set(states))}


def _release(stage: Stage, parts: Parts, version: int) -> None:
    options = write_parts(parts, stage.data, stage.folder / f"v{version}", version=version)
    with stage.screen.step(f"version {version} becomes a bundle in the registry"):
        stage.skerry("versions", "register", stage.model, "--version", str(version), *options, show=version == 1)
    _gate_and_sign(stage, version, show=version == 1)


def _gate_and_sign(stage: Stage, version: int, *, show: bool) -> None:
    with stage.screen.step("the hub evaluates it on held-out data, against the model's gate"):
        held_out = str(stage.folder / "held-out.npz")
        result = stage.skerry("versions", "gate", stage.model, str(version), held_out, show=show)
    stage.screen.fact(f"gate passed, accuracy [bold]{result['metrics']['values']['accuracy']:.3f}[/]")
    _sign(stage, version, show=show)


def _sign(stage: Stage, version: int, *, show: bool) -> None:
    with stage.screen.step("two reviewers look at it and sign: that is the approval"):
        for name in _REVIEWERS[:2]:
            stage.skerry(
                "versions", "sign", stage.model, str(version), "--key", _key(stage, name),
                "--yes", show=show,
            )  # fmt: skip


def _deploy(stage: Stage, version: int) -> None:
    with stage.screen.step(f"five devices download, verify, probe, switch and watch version {version}"):
        sent = stage.skerry("deploy", stage.model, str(version), "--all", "--wait")
    if sent["progress"]["succeeded"] != len(stage.devices):
        raise DemoFailed(f"Version {version} is not on every device: {sent}")
    stage.skerry("versions", "promote", stage.model, str(version), "--reason", "demo", show=False)


def _steady_load(stage: Stage) -> list[SteadyLoad]:
    loads = [SteadyLoad(Application(d.socket, stage.model, stage.data), stage.seen_by(d)) for d in stage.devices]
    for load in loads:
        load.start()
    stage.screen.fact("from now on an application on every device keeps asking")
    return loads


def _judge_load(stage: Stage, loads: Sequence[SteadyLoad]) -> None:
    failures = [text for load in loads for text in load.failures]
    answers = {version: sum(load.answers.get(version, 0) for load in loads) for version in ("1", "2", "3")}
    stage.facts["requests_while_switching"] = {"answers": answers, "failures": len(failures)}
    stage.screen.fact(
        f"requests while versions changed: [bold]{sum(answers.values())}[/] answered "
        f"({answers['1']} by version 1, {answers['2']} by 2, {answers['3']} by 3), [bold]{len(failures)}[/] failed"
    )
    if failures or answers["3"] or not answers["2"]:
        raise DemoFailed(f"Requests failed or were answered by the wrong version: {failures[:5]} {answers}")


def _measure(stage: Stage, version: int) -> None:
    rows, facts = [], {}
    with stage.screen.step(f"asking each device about {_IMAGES} held-out images over its local API"):
        for device in stage.devices:
            application = Application(device.socket, stage.model, stage.data)
            found = application.measure(stage.seen_by(device), _IMAGES)
            application.close()
            if found.version != str(version):
                raise DemoFailed(f"{device.name} answered with version {found.version}, not {version}.")
            facts[device.name] = {"accuracy": found.accuracy, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms}
            rows.append(
                (device.name, device.profile, found.version, f"{found.accuracy:.3f}",
                 f"{found.p50_ms:.2f} ms", f"{found.p99_ms:.2f} ms")
            )  # fmt: skip
    stage.screen.table(
        f"Version {version} on the devices", ("device", "profile", "version", "accuracy", "p50", "p99"), rows
    )
    stage.facts[f"version_{version}"] = facts


def _train_on_devices(stage: Stage, serving: int = 2) -> None:
    with stage.screen.step(f"asking each device about held-out pictures through its own lens: {len(DIRTY)} are greasy"):
        before = federated.accuracies(stage, serving)
    learning = [device for device in stage.devices if device.name in _LEARNING]
    with stage.screen.step("applications tell the truth about some of what their cameras saw; it stays on the device"):
        for part, device in enumerate(learning):
            federated.tell_truths(stage, device, part)
    file = stage.folder / "run.yaml"
    file.write_text(federated.RUN.format(model=stage.model, goal=len(learning)))
    stage.screen.text(file.read_text())
    with stage.screen.step("the hub hears how many samples each device has, and of which classes"):
        federated.wait_for_samples(stage, str(file), len(learning))
    stage.show("federated", "run", str(file), "--dry-run")
    stage.follow("federated", "run", str(file), "--watch", code=0)
    run = federated.candidate_of(stage)
    stage.show("federated", "show", run["run_id"])
    version = int(run["result"]["version"])
    stage.screen.fact(f"version {version} was made of it by the hub, and passed the same gate as every version")
    _sign(stage, version, show=False)
    loads = _steady_load(stage)
    try:
        rollout = _roll_out(stage, version)
    finally:
        for load in loads:
            load.stop()
    failures = [text for load in loads for text in load.failures]
    if failures or _states(stage, rollout) != {"succeeded": len(stage.devices)}:
        raise DemoFailed(f"Version {version} did not reach every device: {rollout['groups']} {failures[:5]}")
    stage.skerry("versions", "promote", stage.model, str(version), "--reason", "demo", show=False)
    with stage.screen.step("the same pictures again, through the same lenses"):
        after = federated.accuracies(stage, version)
    federated.judge_gain(stage, before, after, _LEARNING)


def _status(stage: Stage) -> None:
    stage.show("status")
    stage.facts["status"] = stage.skerry("status", show=False)
    verified = stage.skerry("audit", "verify")
    stage.facts["audit"] = verified
    stage.screen.fact(f"the audit log's hash chain holds over [bold]{verified.get('entries', '?')}[/] entries")


def _online(stage: Stage) -> int:
    stage.children.check()
    return int(stage.skerry("status", show=False)["devices"]["online"])


def _at_once(work: Callable[[T], object], items: Sequence[T]) -> None:
    with ThreadPoolExecutor(len(items)) as pool:
        list(pool.map(work, items))


def _key(stage: Stage, name: str) -> str:
    return str(stage.keys / f"{name}.key")


def _public(stage: Stage, name: str) -> str:
    return str(stage.keys / f"{name}.pub")


def _options(flag: str, values: Sequence[str | Path]) -> list[str]:
    return [word for value in values for word in (flag, str(value))]


ACTS = (
    Act("The hub and its people", "Who may approve is decided by keys that the hub never sees.", _hub_and_people),
    Act("Five devices join", "A one-time string, a key that never leaves the device, a certificate.", _enrol),
    Act("The first version", "Registered, gated, signed by two people, deployed, serving.", _first_version),
    Act(
        "A better version, under load",
        "First to a canary, then to all, while applications keep asking.",
        _second_version,
    ),
    Act(
        "A dirty lens",
        "Two cameras see blurred, hazy pictures. The hub gets counts only, and says which two and what it is.",
        dirty_lens,
    ),
    Act(
        "The devices learn",
        "Three train on what only they have seen. What comes of it is gated, signed and rolled out to all five.",
        _train_on_devices,
    ),
    Act("The fleet, seen from the hub", "What an operator looks at.", _status),
)
