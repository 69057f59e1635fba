"""Float edges for an int8 model: QUANTIZE and DEQUANTIZE inside the graph instead of around it.

The weights and all arithmetic stay int8. The conversion of a small input costs a tenth of a microsecond in the
runtime's kernels and over two in Python, so models made here take and give float32. Models with int8 edges run too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.errors import InvalidInput
from shared.runtime.interpreter import schema

__all__ = ["float_edges"]


def float_edges(model: bytes) -> bytes:
    """The model with float32 where the primary subgraph's inputs and outputs are quantised."""
    import flatbuffers

    tables = schema()
    root = tables.ModelT.InitFromPackedBuf(model, 0)
    _bring_inside(root, model)
    graph = root.subgraphs[0]
    before, after, moved = [], [], {}
    for tensor in graph.inputs:
        if _is_quantised(tables, graph.tensors[tensor]):
            moved[int(tensor)] = edge = _float_copy(tables, graph, tensor)
            before.append(_operator(tables, root, "QUANTIZE", 1, edge, int(tensor)))
    for tensor in graph.outputs:
        if _is_quantised(tables, graph.tensors[tensor]):
            if int(tensor) in moved:
                raise InvalidInput("model.edges", "An input of the model is also its output.")
            moved[int(tensor)] = edge = _float_copy(tables, graph, tensor)
            after.append(_operator(tables, root, "DEQUANTIZE", 2, int(tensor), edge))
    graph.operators = [*before, *graph.operators, *after]
    graph.inputs = [moved.get(int(tensor), int(tensor)) for tensor in graph.inputs]
    graph.outputs = [moved.get(int(tensor), int(tensor)) for tensor in graph.outputs]
    for definition in root.signatureDefs or []:
        if definition.subgraphIndex == 0:
            for entry in [*definition.inputs, *definition.outputs]:
                entry.tensorIndex = moved.get(int(entry.tensorIndex), int(entry.tensorIndex))
    builder = flatbuffers.Builder()
    builder.Finish(root.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _bring_inside(root: Any, model: bytes) -> None:
    """Large constants may stand behind the flatbuffer, by their offset, which would not be true any more."""
    for buffer in root.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(model, np.uint8, int(buffer.size), int(buffer.offset))
            buffer.offset = buffer.size = 0


def _is_quantised(tables: Any, tensor: Any) -> bool:
    kinds = tables.TensorType
    return tensor.type in (kinds.INT8, kinds.UINT8, kinds.INT16) and tensor.quantization is not None


def _float_copy(tables: Any, graph: Any, tensor: int) -> int:
    copy, source = tables.TensorT(), graph.tensors[tensor]
    copy.name, copy.type, copy.buffer = b"edge%d" % tensor, tables.TensorType.FLOAT32, 0
    copy.shape = [int(n) for n in source.shape]
    if source.shapeSignature is not None:
        copy.shapeSignature = [int(n) for n in source.shapeSignature]
    graph.tensors.append(copy)
    return len(graph.tensors) - 1


def _operator(tables: Any, root: Any, name: str, version: int, source: int, result: int) -> Any:
    number = getattr(tables.BuiltinOperator, name)
    codes = root.operatorCodes
    index = next((i for i, code in enumerate(codes) if code.builtinCode == number), len(codes))
    if index == len(codes):
        code = tables.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = version
        codes.append(code)
    options = {"QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions"}[name]
    operator = tables.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = index, [source], [result]
    operator.builtinOptionsType = getattr(tables.BuiltinOptions, options)
    operator.builtinOptions = getattr(tables, f"{options}T")()
    return operator
