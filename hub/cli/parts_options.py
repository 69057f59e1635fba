"""The options from which a bundle is built, the same for `skerry versions build` and `register`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from hub.cli.parts import Parts
from shared import strict_yaml
from shared.bundle.manifest import Lineage
from shared.errors import InvalidInput
from shared.ids import parse_model_name, parse_sha256, parse_version
from shared.limits import MAX_SETTINGS_BYTES

__all__ = ["LineageOptions", "PartsOptions", "parts_of"]


def _part(name: str, text: str) -> Any:
    return typer.Option(name, help=text, rich_help_panel="Parts of the bundle")


def _origin(name: str, text: str) -> Any:
    return typer.Option(f"--lineage-{name}", help=text, rich_help_panel="Where it comes from")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsOptions:
    """What the bundle is made of."""

    version: Annotated[int | None, _part("--version", "Number of the new version.")] = None
    extractor: Annotated[Path | None, _part("--extractor", "The frozen model, .tflite.")] = None
    head: Annotated[Path | None, _part("--head", "The trainable head, .tflite.")] = None
    weights: Annotated[Path | None, _part("--weights", "The head's weights, .npz.")] = None
    preprocessing: Annotated[Path | None, _part("--preprocessing", "Operations, YAML or JSON.")] = None
    labels: Annotated[Path | None, _part("--labels", "Labels: a JSON list, or one per line.")] = None
    golden: Annotated[Path | None, _part("--golden", "Golden inputs, .npy, as the application sends them.")] = None
    tolerance: Annotated[float, _part("--tolerance", "Greatest difference to the golden outputs.")] = 0.05
    card: Annotated[Path | None, _part("--card", "Model card, Markdown.")] = None
    reference: Annotated[
        Path | None, _part("--reference", "Data that is as it should be, .npz with x, y, t; to know drift by.")
    ] = None
    contract: Annotated[Path | None, _part("--contract", "What each feature should be, YAML.")] = None
    input: Annotated[str | None, _part("--input", "NAME:DTYPE:SHAPE; default: as the golden inputs.")] = None
    output: Annotated[str | None, _part("--output", "NAME:DTYPE:SHAPE; default: probs:float32:LABELS.")] = None
    task: Annotated[Literal["classification", "regression"], _part("--task", "What the output is.")] = "classification"
    memory_bytes: Annotated[int, _part("--memory-bytes", "Memory that the model needs on a device.")] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageOptions:
    """Where the version comes from."""

    data_name: Annotated[str, _origin("data-name", "Name of the training data.")] = ""
    data_sha256: Annotated[str | None, _origin("data-sha256", "SHA-256 of the training data.")] = None
    code_revision: Annotated[str, _origin("code", "Revision of the training code.")] = ""
    parent_version: Annotated[int | None, _origin("parent", "Version that it was trained from.")] = None
    training_run: Annotated[str, _origin("run", "Id of the training run.")] = ""
    parameters: Annotated[Path | None, _origin("parameters", "Training parameters, YAML or JSON.")] = None


def parts_of(model: str, options: PartsOptions, lineage: LineageOptions) -> Parts:
    """The parts that the options name; errors `id.*`, `cli.part`, `cli.lineage`."""
    if options.version is None or options.extractor is None or options.golden is None:
        raise InvalidInput(
            "cli.part",
            "A bundle needs at least --version, --extractor and --golden.",
            hint="Or register one that is built already with --bundle.",
        )
    return Parts(
        model=parse_model_name(model),
        version=parse_version(options.version),
        extractor=options.extractor,
        golden=options.golden,
        head=options.head,
        weights=options.weights,
        preprocessing=options.preprocessing,
        labels=options.labels,
        card=options.card,
        reference=options.reference,
        contract=options.contract,
        input=options.input,
        output=options.output,
        tolerance=options.tolerance,
        memory_bytes=options.memory_bytes,
        task=options.task,
        lineage=_lineage(lineage),
    )


def _lineage(options: LineageOptions) -> Lineage:
    values = {
        "data_name": options.data_name,
        "data_sha256": None if options.data_sha256 is None else parse_sha256(options.data_sha256),
        "code_revision": options.code_revision,
        "parent_version": options.parent_version,
        "training_run": options.training_run,
        "parameters": {} if options.parameters is None else _mapping(options.parameters),
    }
    try:
        return msgspec.convert(values, Lineage)
    except msgspec.ValidationError as error:
        raise InvalidInput("cli.lineage", f"The lineage is not valid: {error}.") from error


def _mapping(path: Path) -> dict[str, Any]:
    document = strict_yaml.load_file(path, limit=MAX_SETTINGS_BYTES)
    if not isinstance(document, dict):
        raise InvalidInput("cli.part", f"{path} is not a mapping of names to values.")
    return document
