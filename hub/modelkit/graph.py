"""A small writer of `.tflite` flatbuffers: subgraphs, tensors, operations, signatures.

Tensors are named by their number. One `GraphWriter` writes one model; each signature is one subgraph, and the first
subgraph is the primary one, which the runtime calls fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.preprocess.kernels import Array
from shared.runtime.interpreter import schema

__all__ = ["GraphWriter"]


class GraphWriter:
    """Collects a model; tensors are handled by their index in the current subgraph."""

    def __init__(self) -> None:
        self.schema = schema()
        self._codes: dict[int, int] = {}
        self._graph: Any = None
        self._model = self._make(
            "ModelT",
            version=3,
            description=b"skerry",
            operatorCodes=[],
            buffers=[self.schema.BufferT()],
            subgraphs=[],
            signatureDefs=[],
        )

    def _make(self, kind: str, **fields: Any) -> Any:
        table = getattr(self.schema, kind)()
        for name, value in fields.items():
            setattr(table, name, value)
        return table

    def subgraph(self) -> None:
        """Begin the next subgraph."""
        self._graph = self._make("SubGraphT", tensors=[], operators=[])
        self._model.subgraphs.append(self._graph)

    def tensor(self, shape: Sequence[int], dtype: str = "FLOAT32", data: Array | None = None) -> int:
        """A tensor; with `data`, a constant."""
        buffer = 0
        if data is not None:
            content = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self._model.buffers.append(self._make("BufferT", data=content))
            buffer = len(self._model.buffers) - 1
        number = len(self._graph.tensors)
        kind = getattr(self.schema.TensorType, dtype)
        name = b"t%d" % number
        self._graph.tensors.append(self._make("TensorT", name=name, shape=list(shape), type=kind, buffer=buffer))
        return number

    def _operator(self, code: str, inputs: Sequence[int], outputs: list[int], options: str, **fields: Any) -> None:
        number = getattr(self.schema.BuiltinOperator, code)
        if number not in self._codes:
            self._codes[number] = len(self._codes)
            self._model.operatorCodes.append(
                self._make("OperatorCodeT", builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1)
            )
        operator = self._make(
            "OperatorT",
            opcodeIndex=self._codes[number],
            inputs=list(inputs),
            outputs=outputs,
            builtinOptionsType=getattr(self.schema.BuiltinOptions, options),
            builtinOptions=self._make(f"{options}T", **fields),
        )
        self._graph.operators.append(operator)

    def op(
        self,
        code: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str,
        dtype: str = "FLOAT32",
        **fields: Any,
    ) -> int:
        """An operation with one output of `shape`; returns the output."""
        out = self.tensor(shape, dtype)
        self._operator(code, inputs, [out], options, **fields)
        return out

    def fully_connected(self, x: int, weights: int, bias: int, shape: Sequence[int], relu: bool = False) -> int:
        """x @ weights^T + bias (-1: none)."""
        kind = self.schema.ActivationFunctionType
        activation = kind.RELU if relu else kind.NONE
        return self.op(
            "FULLY_CONNECTED", [x, weights, bias], shape, "FullyConnectedOptions", fusedActivationFunction=activation
        )

    def softmax(self, x: int, shape: Sequence[int]) -> int:
        """Softmax over the last dimension."""
        return self.op("SOFTMAX", [x], shape, "SoftmaxOptions", beta=1.0)

    def multiply(self, a: int, b: int, shape: Sequence[int]) -> int:
        """a * b, broadcast."""
        return self.op("MUL", [a, b], shape, "MulOptions")

    def subtract(self, a: int, b: int, shape: Sequence[int]) -> int:
        """a - b, broadcast."""
        return self.op("SUB", [a, b], shape, "SubOptions")

    def positive(self, x: int, zero: int, shape: Sequence[int]) -> int:
        """1 where x is above the constant `zero`, else 0."""
        above = self.op("GREATER", [x, zero], shape, "GreaterOptions", "BOOL")
        kinds = self.schema.TensorType
        return self.op("CAST", [above], shape, "CastOptions", inDataType=kinds.BOOL, outDataType=kinds.FLOAT32)

    def transpose(self, x: int, shape: Sequence[int]) -> int:
        """The transpose of a matrix."""
        order = self.tensor([2], "INT32", np.array([1, 0], np.int32))
        return self.op("TRANSPOSE", [x, order], shape, "TransposeOptions")

    def sum(self, x: int, axes: Sequence[int], shape: Sequence[int]) -> int:
        """The sum over `axes`."""
        which = self.tensor([len(axes)], "INT32", np.array(axes, np.int32))
        return self.op("SUM", [x, which], shape, "ReducerOptions", keepDims=False)

    def _variable(self, name: str) -> int:
        handle = self.tensor([1], "RESOURCE")
        self._operator("VAR_HANDLE", [], [handle], "VarHandleOptions", container=b"", sharedName=name.encode())
        return handle

    def read(self, name: str, shape: Sequence[int]) -> int:
        """The value of a variable."""
        return self.op("READ_VARIABLE", [self._variable(name)], shape, "ReadVariableOptions")

    def assign(self, name: str, value: int) -> None:
        """Set a variable."""
        self._operator("ASSIGN_VARIABLE", [self._variable(name), value], [], "AssignVariableOptions")

    def signature(self, key: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Name the inputs and outputs of the current subgraph."""
        self._graph.inputs, self._graph.outputs = list(inputs.values()), list(outputs.values())
        definition = self._make(
            "SignatureDefT",
            signatureKey=key.encode(),
            subgraphIndex=len(self._model.subgraphs) - 1,
            inputs=[self._make("TensorMapT", name=n.encode(), tensorIndex=t) for n, t in inputs.items()],
            outputs=[self._make("TensorMapT", name=n.encode(), tensorIndex=t) for n, t in outputs.items()],
        )
        self._model.signatureDefs.append(definition)

    def finish(self) -> bytes:
        """The `.tflite` bytes."""
        import flatbuffers

        builder = flatbuffers.Builder()
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
