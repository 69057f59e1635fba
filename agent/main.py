"""`skerry-agent`: the command line on a device.

Only what a command needs is imported when it runs; `run` replaces this process by the daemon, which stays small.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from agent.local_client import LocalAgent
from agent.output import Output, columns
from agent.paths import AgentPaths
from shared import __version__
from shared.errors import InternalError, SkerryError

__all__ = ["app", "main"]

app = typer.Typer(
    name="skerry-agent",
    help="Runs models on this device and keeps them up to date.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
service = typer.Typer(help="Run the agent under systemd.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(service, name="service")
data = typer.Typer(help="The labelled samples that this device keeps.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")
training = typer.Typer(help="What this device trains on its own data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(training, name="training")


def default_state() -> Path:
    """The folder of a system service when it is there or we are root, else one of the person's own."""
    system = Path("/var/lib/skerry")
    if os.geteuid() == 0 or system.is_dir():
        return system
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "skerry"


StateOption = Annotated[
    Path | None, typer.Option("--state", envvar="SKERRY_STATE", help="The agent's folder.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _run(as_json: bool, work: Callable[[Output], None]) -> None:
    """Do a command's work; an error ends it with the exit code of its family."""
    output = Output(as_json=as_json)
    try:
        work(output)
    except SkerryError as error:
        raise typer.Exit(output.error(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
    except OSError as error:
        wrapped = InternalError("agent.system", f"The system refused: {error}.")
        raise typer.Exit(output.error(wrapped)) from error


def _paths(state: Path | None) -> AgentPaths:
    return AgentPaths((state or default_state()).absolute())


def _local(state: Path | None) -> LocalAgent:
    return LocalAgent(_paths(state).socket)


@app.command(epilog="Example: skerry-agent enrol skerry-join:eyJ... --profile raspberry-pi-4 --device-id kitchen")
def enrol(
    join: Annotated[str, typer.Argument(help="The line that `skerry devices token` printed; - reads it from stdin.")],
    profile: Annotated[str, typer.Option(help="Firmware profile: a name, or the path of a file.")],
    device_id: Annotated[str | None, typer.Option(help="A name for this device; else the hub gives one.")] = None,
    hardware_id: Annotated[
        str | None, typer.Option(help="Instead of the board's serial number or the machine's id.", show_default=False)
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give up the identity that this device has.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make this device known to a hub: the key is made here and stays here."""

    def work(output: Output) -> None:
        from agent.identity.enrol import Wish
        from agent.identity.enrol import enrol as enrol_device
        from agent.identity.owner import hand_over
        from agent.telemetry.hardware import hardware_id as read_hardware_id
        from shared.join import decode_join

        hardware = read_hardware_id() if hardware_id is None else hardware_id
        wish = Wish(profile=profile, device_id=device_id, hardware_id=hardware, replace=replace)
        paths = _paths(state)
        line = sys.stdin.readline() if join == "-" else join
        identity = enrol_device(paths, decode_join(line), wish)
        hand_over(paths.root)
        output.result(
            identity,
            [
                f"This device is {identity.device_id} at {identity.hub_url}.",
                "Start the agent with `skerry-agent run` or `skerry-agent service install`.",
            ],
        )

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent run --state /var/lib/skerry --api-port 8600")
def run(
    state: StateOption = None,
    api_port: Annotated[int | None, typer.Option(help="Serve predictions on this loopback port as well.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the agent in the foreground until it is stopped."""

    def work(output: Output) -> None:
        del output
        from agent.launch import launch

        arguments = ["--state", str(_paths(state).root)]
        arguments += ["--api-port", str(api_port)] if api_port is not None else []
        arguments += ["--log-level", log_level] if log_level is not None else []
        launch(arguments)

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent status --json")
def status(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What the running agent does: its models, its link to the hub, what waits to be told."""

    def work(output: Output) -> None:
        with _local(state) as agent:
            data = agent.get("/skerry/status")
        from agent.status_view import status_lines

        output.result(data, status_lines(data))

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent history digits")
def history(
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The last installations on this device and how they ended."""

    def work(output: Output) -> None:
        with _local(state) as agent:
            data = agent.get("/skerry/history" + (f"?model={quote(model)}" if model else ""))
        from agent.status_view import history_lines

        output.result(data, history_lines(data))

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent rollback digits")
def rollback(
    model: Annotated[str, typer.Argument(help="The model to take back.")],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to the version before, which is still on this device; needs no network."""

    def work(output: Output) -> None:
        with _local(state) as agent:
            data = agent.post("/skerry/rollback", {"model": model})
        output.result(data, [f"{model} goes back to the version before. `skerry-agent status` shows how it goes."])

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent install /media/usb/skerry")
def install(
    folder: Annotated[Path, typer.Argument(help="The folder that `skerry trust export` wrote.")],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Let the running agent go on alone.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Install from a folder, without network: the same checks, probe and probation as from the hub."""

    def work(output: Output) -> None:
        from agent.folder_install import install_folder

        say = (lambda _text: None) if as_json else (lambda text: typer.echo(text, err=True))
        data = install_folder(_paths(state), folder, wait=not no_wait, say=say)
        output.result(data, _install_lines(data))

    _run(as_json, work)


def _install_lines(data: Any) -> Iterable[str]:
    ended = {model["model"] for model in data["models"]}
    for offer in data["offers"]:
        what = f"{offer['model']} {offer['version']}"
        if offer["outcome"] == "known":
            yield f"{what} was taken from this folder, or a newer one, before; see `skerry-agent status`."
        elif offer["model"] in ended:
            yield f"{what} is installed and serves."
        else:
            yield f"{what} is accepted. `skerry-agent status` shows how it goes."


@app.command(epilog="Example: skerry-agent doctor")
def doctor(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Say what is wrong with this device and what to do; exit code 0 is healthy, 20 a warning, 21 a problem."""

    def work(output: Output) -> None:
        from agent.doctor.command import run as examine

        found = examine(_paths(state), output)
        if found:
            raise typer.Exit(found)

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent infer digits image.npy")
def infer(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    file: Annotated[Path, typer.Argument(help="Samples: .npy, or .json with nested lists; one or a batch.")],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """One prediction by the running agent."""

    def work(output: Output) -> None:
        from agent.sample_file import infer_request, read_samples

        path = f"/v2/models/{quote(model)}"
        with _local(state) as agent:
            request = infer_request(agent.get(path), read_samples(file))
            data = agent.post(f"{path}/infer", request)
        output.result(data, _prediction_lines(data))

    _run(as_json, work)


def _prediction_lines(data: Any) -> Iterable[str]:
    for out in data["outputs"]:
        width = 1
        for size in out["shape"][1:]:
            width *= size
        values = out["data"]
        rows = [values[at : at + width] for at in range(0, len(values), width)]
        cells = [
            (index, " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
            for index, row in enumerate(rows)
        ]
        yield from columns(("sample", out["name"]), cells)


def _unit_options(state: Path | None, user: bool, memory_max: int | None) -> Any:
    from agent.identity.store import IdentityStore
    from agent.service.unit import UnitOptions, memory_max_bytes
    from shared.profiles import load_profile

    paths = _paths(state)
    if memory_max is None:
        store = IdentityStore(paths.identity)
        memory_max = memory_max_bytes(load_profile(store.load().profile)) if store.exists() else 512 * 1024 * 1024
    return UnitOptions(python=Path(sys.executable), state=paths.root, memory_max_bytes=memory_max, user=user)


UserOption = Annotated[bool, typer.Option("--user", help="A service of your own instead of the system's.")]
MemoryOption = Annotated[int | None, typer.Option("--memory-max", help="Bytes; else from the firmware profile.")]


@service.command("print", epilog="Example: skerry-agent service print > skerry-agent.service")
def service_print(
    user: UserOption = False, memory_max: MemoryOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Print the systemd unit and change nothing."""

    def work(output: Output) -> None:
        from agent.service.unit import render_unit

        text = render_unit(_unit_options(state, user, memory_max))
        output.result({"unit": text}, text.splitlines())

    _run(as_json, work)


@service.command("install", epilog="Example: sudo skerry-agent service install --state /var/lib/skerry")
def service_install(
    user: UserOption = False,
    memory_max: MemoryOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Install the agent as a hardened systemd service and start it."""

    def work(output: Output) -> None:
        from agent.service.install import install, places, plan

        options, where = _unit_options(state, user, memory_max), places(user=user)
        commands = [" ".join(step.command) for step in plan(options, where)]
        files = [str(path) for path in (where.unit, where.account) if path is not None]
        if not dry_run:
            install(options, where)
        would = "Would write" if dry_run else "Wrote"
        ran = "Would run" if dry_run else "Ran"
        lines = [*(f"{would} {name}" for name in files), *(f"{ran} {command}" for command in commands)]
        output.result({"files": files, "commands": commands, "dry_run": dry_run}, lines)

    _run(as_json, work)


@data.command("show", epilog="Example: sudo skerry-agent data show --json")
def data_show(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What is kept to train on, by class: how many, how large, how old, for how long."""

    def work(output: Output) -> None:
        from agent.training.data_command import data_lines, show

        found = show(_paths(state))
        output.result(found, data_lines(found))

    _run(as_json, work)


@data.command("erase", epilog="Example: sudo skerry-agent data erase --yes")
def data_erase(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy all of it, with its key: nobody can read it again."""

    def work(output: Output) -> None:
        from agent.training.data_command import count, erase

        found = count(_paths(state))
        what = "All samples" if found is None else f"{found} samples"
        if not yes:
            typer.confirm(f"{what} will be destroyed. Go on?", abort=True, err=True)
        erase(_paths(state))
        output.result({"erased": found}, [f"{what} are destroyed, and their key."])

    _run(as_json, work)


@training.command("show", epilog="Example: skerry-agent training show")
def training_show(state: StateOption = None, as_json: JsonOption = False) -> None:
    """The last offers to train, what this device said to them, its rounds, and its own heads."""

    def work(output: Output) -> None:
        with _local(state) as agent:
            data = agent.get("/skerry/training")
        from agent.training.view import training_lines

        output.result(data, training_lines(data))

    _run(as_json, work)


@app.command(epilog="Example: skerry-agent version --json")
def version(as_json: JsonOption = False) -> None:
    """The version of this agent."""
    Output(as_json=as_json).result({"version": __version__}, [__version__])


def main() -> None:
    """The entry point of `skerry-agent`."""
    app()


if __name__ == "__main__":
    main()
