"""`skerry versions build` and `register`: a bundle from its parts, and a bundle into the hub's registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.models import ModelArgument
from hub.cli.parts import build
from hub.cli.parts_options import LineageOptions, PartsOptions, parts_of
from hub.cli.session import Session, command
from hub.cli.text import size
from hub.cli.versions import app
from shared.errors import InvalidInput
from shared.ids import parse_model_name

__all__: list[str] = []

BundleOption = Annotated[Path | None, typer.Option("--bundle", help="A bundle that is built already.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Where to; default MODEL-VERSION.bundle.")]


@command(
    app,
    "build",
    examples=["skerry versions build digits --version 2 --extractor e.tflite --labels labels.txt --golden golden.npy"],
    local=True,
)
def build_only(
    session: Session, model: ModelArgument, options: PartsOptions, lineage: LineageOptions, out: OutOption = None
) -> None:
    """Build a bundle from its parts, without a hub. The golden outputs are computed with the real runtime."""
    parts = parts_of(model, options, lineage)
    target = out or Path(f"{parts.model}-{parts.version}.bundle")
    built = build(parts, target)
    said = f"{target}: version {parts.version} of {parts.model}, {size(built.bytes)}, sha256 {built.sha256}"
    session.out.result({"path": str(target), "bytes": built.bytes, "sha256": built.sha256}, said)


@command(
    app,
    "register",
    examples=[
        "skerry versions register digits --bundle digits-2.bundle",
        "skerry versions register digits --version 2 --extractor e.tflite --labels labels.txt --golden golden.npy",
    ],
)
def register(
    session: Session, model: ModelArgument, options: PartsOptions, lineage: LineageOptions, bundle: BundleOption = None
) -> None:
    """Register a version: a bundle that is built already, or one that is built from its parts now.

    The same bytes again give the same answer; other bytes for a used number are refused.
    """
    parse_model_name(model)
    if bundle is not None:
        if options != PartsOptions() or lineage != LineageOptions():
            raise InvalidInput("cli.contradiction", "Give --bundle or parts of a bundle, not both.")
        _upload(session, model, bundle)
        return
    parts = parts_of(model, options, lineage)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / f"{parts.model}-{parts.version}.bundle"
        build(parts, built)
        _upload(session, model, built)


def _upload(session: Session, model: str, bundle: Path) -> None:
    with session.out.progress(f"Uploading {bundle.name}") as progress:
        answer = session.client.upload(f"/v1/models/{model}/versions", bundle, progress)
    said = f"Version {answer['version']} of {model} is registered, sha256 {answer['bundle_sha256']}."
    session.out.result(answer, said)
