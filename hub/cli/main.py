"""`skerry`: the commands put together. Imports stay light, so that help and completion answer at once."""

from __future__ import annotations

import typer

from hub.cli import (
    alerts,
    audit,
    ceremony,
    completion,
    config_commands,
    deploy,
    device_top,
    devices,
    drift,
    enrolment,
    federated,
    garbage,
    groups,
    hardware,
    key_use,
    keys,
    model_create,
    models,
    policies,
    profiles,
    registering,
    revoke,
    rollout,
    rollout_control,
    rollout_policy,
    sign,
    status,
    tokens,
    triggers,
    trust,
    versions,
)

__all__ = ["EXTENSIONS", "GROUPS", "app", "main"]

GROUPS = (
    devices,
    groups,
    models,
    versions,
    keys,
    trust,
    deploy,
    rollout,
    federated,
    policies,
    drift,
    alerts,
    tokens,
    audit,
    profiles,
    config_commands,
)
"""Modules with a group of commands of their own (`app`)."""
EXTENSIONS = (
    ceremony,
    device_top,
    enrolment,
    hardware,
    key_use,
    model_create,
    registering,
    revoke,
    rollout_control,
    rollout_policy,
    sign,
    triggers,
)
"""Modules that add commands to the group of another, by being imported."""

app = typer.Typer(
    name="skerry",
    help="Deploy models to a fleet of edge devices and watch them there.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in GROUPS:
    app.add_typer(group.app)
status.add_status(app)
deploy.add_deploy(app)
garbage.add_gc(app)
completion.add_completion(app)


def main() -> None:
    """The console script."""
    app()
