"""`skerry versions`: look at versions, gate, compare, promote, download them. `registering` adds build and register."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.models import ModelArgument, VersionArgument
from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, short_digest, size, when
from shared.errors import Conflict, InvalidInput
from shared.ids import SHA256_PATTERN, parse_alias, parse_model_name, parse_version

__all__ = ["app", "version_path"]

app = new_group("versions", "Versions: register, gate, compare, promote, download.")

_GATE_TIMEOUT_S = 900.0


def version_path(model: str, version: int) -> str:
    """The path of a version in the hub's API; errors `id.*`."""
    return f"/v1/models/{parse_model_name(model)}/versions/{parse_version(version)}"


@command(app, "list", examples=["skerry versions list digits"])
def list_versions(session: Session, model: ModelArgument) -> None:
    """List the versions of a model, newest first."""
    items = list(session.client.pages(f"/v1/models/{parse_model_name(model)}/versions"))
    now = session.now()
    rows = [
        (
            item["version"],
            item["status"],
            size(item["bundle_bytes"]),
            short_digest(item["bundle_sha256"]),
            item["parent_version"],
            item["created_by"],
            ago(item["created_s"], now),
        )
        for item in items
    ]
    columns = ["version", "status", "size", "sha256", "parent", "made by", "made"]
    session.out.rows(items, columns, rows, empty=f"{model} has no versions yet.")


@command(app, "show", examples=["skerry versions show digits 2", "skerry versions show digits 2 --card"])
def show_version(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    card: Annotated[bool, typer.Option("--card", help="Show the model card only.")] = False,
) -> None:
    """Show a version: what it holds, where it comes from, how its gate went."""
    path = version_path(model, version)
    item = session.client.get(path)
    if card:
        session.out.result({"card": item["card"]}, item["card"] or "This version has no card.")
        return
    gates = list(session.client.pages(f"{path}/gates", limit=1))
    views: list[object] = [fields_table(_summary(item))]
    files = [(entry["path"], entry["role"], size(entry["bytes"])) for entry in item["manifest"]["files"]]
    views.append(rows_table(["file", "role", "size"], files, title="Files"))
    if gates:
        views += _gate_views(gates[0])
    session.out.result({**item, "newest_gate": gates[0] if gates else None}, *views)


@command(
    app,
    "gate",
    examples=["skerry versions gate digits 2 held-out.npz", "skerry versions gate digits 2 9f86d081884c…0a08"],
)
def gate(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    dataset: Annotated[str, typer.Argument(metavar="NPZ|SHA256", help="Held-out data (x, y), or one uploaded before.")],
    name: Annotated[str | None, typer.Option("--name", help="Name for the uploaded data.")] = None,
) -> None:
    """Evaluate a version on held-out data against the model's policy. Exit code 5 when it does not pass."""
    path = version_path(model, version)
    digest = dataset if _is_digest(dataset) else _upload_dataset(session, Path(dataset), name)
    session.out.note("The hub evaluates the version; this may take a while.")
    result = session.client.post(f"{path}/gate", {"dataset_sha256": digest}, timeout_s=_GATE_TIMEOUT_S)
    session.out.result(result, *_gate_views(result))
    if not result["passed"]:
        reasons = " ".join(check["reason"] for check in result["checks"] if not check["passed"])
        raise Conflict("gate.failed", f"Version {version} of {model} did not pass its gate. {reasons}"[:500])


@command(app, "compare", examples=["skerry versions compare digits 1 2"])
def compare(
    session: Session,
    model: ModelArgument,
    a: Annotated[int, typer.Argument(metavar="A", min=1, help="One version.")],
    b: Annotated[int, typer.Argument(metavar="B", min=1, help="The other.")],
) -> None:
    """Show what differs between two versions: metrics, files, manifest, lineage."""
    found = session.client.get(f"/v1/models/{parse_model_name(model)}/compare", a=a, b=b)
    columns = ["", f"version {a}", f"version {b}"]
    sides = [
        (name, found["a"][key], found["b"][key])
        for name, key in (("status", "status"), ("bytes", "bundle_bytes"), ("gate passed", "gate_passed"))
    ]
    views: list[object] = [rows_table(columns, [(name, str(one), str(other)) for name, one, other in sides])]
    for title, key in (("Metrics", "metrics"), ("Lineage", "lineage"), ("Manifest", "manifest")):
        if found[key]:
            rows = [(row["field"], _short(row["a"]), _short(row["b"])) for row in found[key]]
            views.append(rows_table(columns, rows, title=title))
    if found["metrics"] and not found["same_dataset"]:
        views.append("The metrics were not measured on the same data.")
    files = [(row["path"], row["change"], size(row["a_bytes"]), size(row["b_bytes"])) for row in found["files"]]
    if files:
        views.append(rows_table(["file", "change", *columns[1:]], files, title="Files"))
    session.out.result(found, *views)


@command(
    app, "promote", examples=["skerry versions promote digits 2", "skerry versions promote digits 3 --alias canary"]
)
def promote(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    alias: Annotated[str, typer.Option("--alias", help="The alias to move.")] = "production",
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the history.")] = "",
) -> None:
    """Let an alias name this version. `production` names approved versions only. Deploying is a step of its own."""
    path = f"/v1/models/{parse_model_name(model)}/aliases/{parse_alias(alias)}"
    answer = session.client.put(path, {"version": parse_version(version), "reason": reason})
    session.out.result(answer, f"{alias} of {model} is version {version} now.")


@command(
    app, "download", examples=["skerry versions download digits 2", "skerry versions download digits 2 -o d2.bundle"]
)
def download(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to; default MODEL-VERSION.bundle.")] = None,
) -> None:
    """Download a version's bundle and check its digest."""
    path = version_path(model, version)
    digest = session.client.get(path)["bundle_sha256"]
    target = out or Path(f"{model}-{version}.bundle")
    with session.out.progress(f"Downloading {model} {version}") as progress:
        done = session.client.download(f"{path}/bundle", target, sha256=digest, progress=progress)
    answer = {"path": str(target), "bytes": done, "sha256": digest}
    session.out.result(answer, f"{target} ({size(done)}), digest checked.")


@command(app, "lineage", examples=["skerry versions lineage digits 3"])
def lineage(session: Session, model: ModelArgument, version: VersionArgument) -> None:
    """Show where a version comes from, and what was made from it."""
    found = session.client.get(f"{version_path(model, version)}/lineage")
    fields = [
        (name.replace("_", " "), _short(value)) for name, value in found["lineage"].items() if value not in (None, "")
    ]
    chain = [
        f"{item['version']}" + ("" if item["registered"] else " (never registered)") for item in found["ancestors"]
    ]
    fields += [
        ("made from", " <- ".join(chain) + ("" if found["complete"] else " <- ...")),
        ("led to", ", ".join(str(number) for number in found["children"])),
    ]
    session.out.result(found, lambda: fields_table(fields))


@command(app, "withdraw", examples=["skerry versions withdraw digits 3 --reason 'wrong labels'"])
def withdraw(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the audit log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Never deploy a version again. Devices that serve it keep it until they get another."""
    path = version_path(model, version)
    session.confirm(f"Withdraw version {version} of {model} for good?", yes=yes)
    answer = session.client.post(f"{path}/withdraw", {"reason": reason})
    session.out.result(answer, f"Version {version} of {model} is withdrawn.")


def _is_digest(text: str) -> bool:
    import re

    return re.match(SHA256_PATTERN, text) is not None


def _upload_dataset(session: Session, file: Path, name: str | None) -> str:
    if not file.is_file():
        raise InvalidInput(
            "cli.file",
            f"There is no file {file}.",
            hint="Give an .npz file with x and y, or a SHA-256 of one uploaded.",
        )
    with session.out.progress(f"Uploading {file.name}") as progress:
        answer = session.client.upload("/v1/datasets", file, progress, name=name or file.stem)
    digest: str = answer["sha256"]
    return digest


def _summary(item: Mapping[str, Any]) -> list[tuple[str, object]]:
    manifest = item["manifest"]
    lineage = manifest.get("lineage", {})
    return [
        ("model", item["model"]),
        ("version", item["version"]),
        ("status", item["status"]),
        ("bundle", f"{item['bundle_sha256']} ({size(item['bundle_bytes'])})"),
        ("input", _tensor(manifest["input"])),
        ("output", _tensor(manifest["output"])),
        ("needs", ", ".join(f"{op} v{at}" for op, at in manifest.get("requirements", {}).get("ops", {}).items())),
        ("data", lineage.get("data_name") or lineage.get("data_sha256")),
        ("code", lineage.get("code_revision")),
        ("parent", item["parent_version"]),
        ("made", f"{when(item['created_s'])} by {item['created_by']}"),
        ("approved", when(item["approved_s"])),
    ]


def _tensor(spec: Mapping[str, Any]) -> str:
    return f"{spec['name']} {spec['dtype']} {'x'.join(str(length) for length in spec['shape'])}"


def _gate_views(result: Mapping[str, Any]) -> list[object]:
    rows = [
        (
            check["metric"],
            f"{check['op']} {_short(check['bound'])}" + (" (production)" if check["relative_to"] else ""),
            _short(check["actual"]),
            "passed" if check["passed"] else "failed",
            check["reason"],
        )
        for check in result["checks"]
    ]
    said = "passed" if result["passed"] else "failed"
    title = f"Gate {said} on {result['dataset_name'] or short_digest(result['dataset_sha256'])}"
    return [rows_table(["metric", "demanded", "measured", "result", "reason"], rows, title=title)]


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
