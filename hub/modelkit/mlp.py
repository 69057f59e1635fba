"""A trainable network of dense layers: ReLU between them, softmax at the end, all of its variables learn.

The signatures are those of the softmax head (`hub.modelkit.head`), with the variables `w1 [out, in]`, `b1 [out]`, `w2`,
… of the layers in order. The gradient is written out in built-in operations: that of ReLU is a multiplication by
`output > 0` (the converter's own for it, FlexReluGrad, does not run in the TFLite runtime).

Small models train whole with it: `passthrough` is the extractor that gives such a head the model's input itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hub.modelkit.graph import GraphWriter
from shared.errors import InvalidInput

__all__ = ["MAX_LAYERS", "mlp_head", "mlp_weights", "passthrough"]

MAX_LAYERS = 8
"""A manifest names at most 16 variables."""


def mlp_head(dims: Sequence[int], train_batch: int = 16) -> bytes:
    """The `.tflite` bytes of layers dims[0] -> dims[1] -> … -> classes; error `model.layers`."""
    _check(dims)
    graph, shapes = GraphWriter(), _shapes(dims)
    graph.subgraph()
    x = graph.tensor([1, dims[0]])
    graph.signature("infer", {"x": x}, {"probs": _forward(graph, x, 1, dims)[1][-1]})
    graph.subgraph()
    _train(graph, dims, train_batch)
    graph.subgraph()
    graph.signature("get_weights", {}, {name: graph.read(name, shape) for name, shape in shapes.items()})
    graph.subgraph()
    values = {name: graph.tensor(shape) for name, shape in shapes.items()}
    for name, value in values.items():
        graph.assign(name, value)
    graph.signature("set_weights", values, {"ok": graph.sum(values["b1"], [0], [])})
    return graph.finish()


def mlp_weights(dims: Sequence[int], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """He's initialisation [out, in], biases of zero; the same seed gives the same bits."""
    _check(dims)
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[np.float32]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(dims), 1):
        drawn = rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs))
        found[f"w{layer}"] = np.ascontiguousarray(drawn.T, np.float32)
        found[f"b{layer}"] = np.zeros(outputs, np.float32)
    return found


def passthrough(size: int) -> bytes:
    """The `.tflite` of an extractor that gives its input: `infer(x [1, size]) -> embedding [1, size]`."""
    graph = GraphWriter()
    graph.subgraph()
    x = graph.tensor([1, size])
    shape = graph.tensor([2], "INT32", np.array([1, size], np.int32))
    out = graph.op("RESHAPE", [x, shape], [1, size], "ReshapeOptions", newShape=[1, size])
    graph.signature("infer", {"x": x}, {"embedding": out})
    return graph.finish()


def _check(dims: Sequence[int]) -> None:
    if not 2 <= len(dims) <= MAX_LAYERS + 1 or min(dims) < 1:
        raise InvalidInput("model.layers", f"Give the sizes of 1 to {MAX_LAYERS} layers, and that of the input first.")


def _shapes(dims: Sequence[int]) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(dims), 1):
        shapes[f"w{layer}"], shapes[f"b{layer}"] = [outputs, inputs], [outputs]
    return shapes


def _forward(graph: GraphWriter, x: int, rows: int, dims: Sequence[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """The variables (w, b) of each layer as read, and the outputs of each layer, the input first."""
    read, outputs, last = [], [x], len(dims) - 1
    for layer, (wide, narrow) in enumerate(pairwise(dims), 1):
        w, b = graph.read(f"w{layer}", [narrow, wide]), graph.read(f"b{layer}", [narrow])
        out = graph.fully_connected(outputs[-1], w, b, [rows, narrow], relu=layer < last)
        outputs.append(graph.softmax(out, [rows, narrow]) if layer == last else out)
        read.append((w, b))
    return read, outputs


def _train(graph: GraphWriter, dims: Sequence[int], rows: int) -> None:
    classes = dims[-1]
    x, onehot = graph.tensor([rows, dims[0]]), graph.tensor([rows, classes])
    mask, step = graph.tensor([rows, 1]), graph.tensor([])
    read, outputs = _forward(graph, x, rows, dims)
    shape = [rows, classes]
    error = graph.multiply(graph.subtract(outputs[-1], onehot, shape), mask, shape)  # d loss / d logits
    zero = graph.tensor([], data=np.zeros((), np.float32))
    for layer in range(len(dims) - 1, 0, -1):
        (w, b), (wide, narrow) = read[layer - 1], (dims[layer - 1], dims[layer])
        across = graph.transpose(error, [narrow, rows])
        gradient_w = graph.fully_connected(
            across, graph.transpose(outputs[layer - 1], [wide, rows]), -1, [narrow, wide]
        )
        gradient_b = graph.sum(error, [0], [narrow])
        if layer > 1:
            back = graph.fully_connected(error, graph.transpose(w, [wide, narrow]), -1, [rows, wide])
            error = graph.multiply(back, graph.positive(outputs[layer - 1], zero, [rows, wide]), [rows, wide])
        graph.assign(f"w{layer}", graph.subtract(w, graph.multiply(gradient_w, step, [narrow, wide]), [narrow, wide]))
        graph.assign(f"b{layer}", graph.subtract(b, graph.multiply(gradient_b, step, [narrow]), [narrow]))
    graph.signature("train", {"x": x, "onehot": onehot, "mask": mask, "step": step}, {"probs": outputs[-1]})
