"""Which built-in operations a `.tflite` needs, and in which versions; for the manifest's requirements.

Imports the flatbuffer schema, so it belongs to the build and to the hub, not to the agent.
"""

from __future__ import annotations

import struct

from shared.errors import InvalidInput
from shared.runtime.interpreter import schema

__all__ = ["list_operators", "merge_operators"]


def list_operators(model: bytes) -> dict[str, int]:
    """Operation name to version for the bytes of a `.tflite`; errors `model.load_failed`, `model.unsupported_op`."""
    tables = schema()
    names = {value: name for name, value in vars(tables.BuiltinOperator).items() if isinstance(value, int)}
    if model[4:8] != b"TFL3":
        raise InvalidInput("model.load_failed", "The file is not a TFLite model.")
    out: dict[str, int] = {}
    try:
        root = tables.Model.GetRootAs(model, 0)
        count = root.OperatorCodesLength()
        if not 0 <= count <= 1024:
            raise ValueError(f"{count} operator codes")
        for index in range(count):
            code = root.OperatorCodes(index)
            name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
            if name in ("", "CUSTOM"):
                raise InvalidInput(
                    "model.unsupported_op",
                    f"The model needs the operation {name or 'unknown'} {code.CustomCode() or b''!r}.",
                    hint="Export the model with built-in TFLite operations only.",
                )
            out[name] = max(out.get(name, 1), code.Version())
    except (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise InvalidInput("model.load_failed", f"The TFLite model is damaged: {error}"[:300]) from error
    return dict(sorted(out.items()))


def merge_operators(*models: dict[str, int]) -> dict[str, int]:
    """The greatest version of each operation over several models."""
    names = sorted({name for model in models for name in model})
    return {name: max(model.get(name, 1) for model in models) for name in names}
