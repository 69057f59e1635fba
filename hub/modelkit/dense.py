"""A dense ReLU extractor from weight matrices, for example scikit-learn's `coefs_` and `intercepts_`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hub.modelkit.graph import GraphWriter
from shared.preprocess.kernels import Array

__all__ = ["dense_relu"]


def dense_relu(layers: Sequence[tuple[Array, Array]]) -> bytes:
    """The float `.tflite` of ReLU layers [(W [in, out], b [out]), …]: `infer(x [1, in]) -> embedding [1, out]`."""
    graph = GraphWriter()
    graph.subgraph()
    x = hidden = graph.tensor([1, layers[0][0].shape[0]])
    for w, b in layers:
        inputs, outputs = w.shape
        weights = graph.tensor([outputs, inputs], data=w.T.astype(np.float32))
        bias = graph.tensor([outputs], data=b.astype(np.float32))
        hidden = graph.fully_connected(hidden, weights, bias, [1, outputs], relu=True)
    graph.signature("infer", {"x": x}, {"embedding": hidden})
    return graph.finish()
