"""Extractors that do harm when they are run: real `.tflite` files, made with the schema like any other.

All take `x` [1, 64] and give `embedding` [1, 64], so that they fit the digits bundle's head.
"""

from __future__ import annotations

import numpy as np

from hub.modelkit.graph import GraphWriter

__all__ = ["ENDLESS", "POISON", "crashing", "endless", "greedy", "unknown_op"]

WIDTH = 64
POISON = float(-(2**31))
"""What `crashing(on_poison=True)` must be given to crash, after the preprocessing."""
ENDLESS = 1e6
"""Above this, after the preprocessing, `endless(on_poison=True)` does not end."""


def crashing(*, on_poison: bool) -> bytes:
    """Takes the smallest 32-bit integer modulo -1, which an x86 processor answers with SIGFPE.

    `on_poison`: only if the input has `POISON` in it, and else it is the identity; otherwise always.
    """
    graph = GraphWriter()
    graph.subgraph()
    x = graph.tensor([1, WIDTH])
    whole = graph.tensor([1, WIDTH], "INT32")
    if on_poison:
        graph._operator("CAST", [x], [whole], "CastOptions", inDataType=0, outDataType=2)
    else:
        same = graph.tensor([1, WIDTH], "INT32", np.full((1, WIDTH), -(2**31), np.int32))
        zeros = graph.tensor([1, WIDTH], "INT32")
        nothing = graph.multiply(x, graph.tensor([1], data=np.zeros(1, np.float32)), [1, WIDTH])
        graph._operator("CAST", [nothing], [zeros], "CastOptions", inDataType=0, outDataType=2)
        graph._operator("ADD", [same, zeros], [whole], "AddOptions")
    minus = graph.tensor([1, WIDTH], "INT32", np.full((1, WIDTH), -1, np.int32))
    divided = graph.tensor([1, WIDTH], "INT32")
    graph._operator("FLOOR_MOD", [whole, minus], [divided], "FloorModOptions")
    back = graph.tensor([1, WIDTH])
    graph._operator("CAST", [divided], [back], "CastOptions", inDataType=2, outDataType=0)
    nothing = graph.multiply(back, graph.tensor([1], data=np.zeros(1, np.float32)), [1, WIDTH])
    graph.signature("infer", {"x": x}, {"embedding": graph.op("ADD", [x, nothing], [1, WIDTH], "AddOptions")})
    return graph.finish()


def endless(*, on_poison: bool = False) -> bytes:
    """Loops for ever; `on_poison`: only while an input is over `ENDLESS`, and else it is the identity."""
    graph = GraphWriter()
    graph.subgraph()
    x = graph.tensor([1, WIDTH])
    out = graph.op("WHILE", [x], [1, WIDTH], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    graph.signature("infer", {"x": x}, {"embedding": out})
    graph.subgraph()
    value = graph.tensor([1, WIDTH])
    more = graph.tensor([1], "BOOL")
    axes = graph.tensor([2], "INT32", np.array([0, 1], np.int32))
    greatest = graph.op("REDUCE_MAX", [value, axes], [1], "ReducerOptions", keepDims=False)
    bound = ENDLESS if on_poison else -1e30
    limit = graph.tensor([1], data=np.full(1, bound, np.float32))
    graph._operator("GREATER", [greatest, limit], [more], "GreaterOptions")
    graph._graph.inputs, graph._graph.outputs = [value], [more]
    graph.subgraph()
    value = graph.tensor([1, WIDTH])
    same = graph.op("ADD", [value, graph.tensor([1], data=np.zeros(1, np.float32))], [1, WIDTH], "AddOptions")
    graph._graph.inputs, graph._graph.outputs = [value], [same]
    return graph.finish()


def greedy(gibibytes: int = 8) -> bytes:
    """Wants a tensor of so many GiB."""
    graph = GraphWriter()
    graph.subgraph()
    x = graph.tensor([1, WIDTH])
    rows = gibibytes * 2**30 // (4 * WIDTH)
    ones = graph.tensor([2], "INT32", np.array([rows, 1], np.int32))
    big = graph.op("TILE", [x, ones], [rows, WIDTH], "TileOptions")
    total = graph.sum(big, [0], [WIDTH])
    shape = graph.tensor([2], "INT32", np.array([1, WIDTH], np.int32))
    out = graph.op("RESHAPE", [total, shape], [1, WIDTH], "ReshapeOptions", newShape=[1, WIDTH])
    graph.signature("infer", {"x": x}, {"embedding": out})
    return graph.finish()


def unknown_op() -> bytes:
    """Needs an operation that is not built in."""
    graph = GraphWriter()
    graph.subgraph()
    x = graph.tensor([1, WIDTH])
    out = graph.tensor([1, WIDTH])
    graph._operator("CUSTOM", [x], [out], "AddOptions")
    graph._model.operatorCodes[0].customCode = b"FluxCapacitor"
    graph._graph.operators[0].builtinOptionsType = 0
    graph._graph.operators[0].builtinOptions = None
    graph.signature("infer", {"x": x}, {"embedding": out})
    return graph.finish()
