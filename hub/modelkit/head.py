"""The trainable head: softmax regression with the signatures `infer`, `train`, `get_weights` and `set_weights`.

`infer(x [1, D]) -> probs [1, C]`; `train(x [B, D], onehot [B, C], mask [B, 1], step []) -> probs [B, C]` is one step of
gradient descent on the masked sum of cross-entropies with step = learning rate / sum of mask (probs are from before
the step); the variables are `w [C, D]` and `b [C]`. `infer` is the primary subgraph because it is called most.
"""

from __future__ import annotations

from hub.modelkit.graph import GraphWriter

__all__ = ["softmax_head"]


def softmax_head(features: int, classes: int, train_batch: int = 16) -> bytes:
    """The `.tflite` bytes of a head from `features` numbers to `classes` probabilities."""
    graph = GraphWriter()
    weights = [classes, features]
    graph.subgraph()
    x = graph.tensor([1, features])
    graph.signature("infer", {"x": x}, {"probs": _probabilities(graph, x, 1, features, classes)[0]})
    graph.subgraph()
    _train(graph, features, classes, train_batch)
    graph.subgraph()
    graph.signature("get_weights", {}, {"w": graph.read("w", weights), "b": graph.read("b", [classes])})
    graph.subgraph()
    w, b = graph.tensor(weights), graph.tensor([classes])
    graph.assign("w", w)
    graph.assign("b", b)
    graph.signature("set_weights", {"w": w, "b": b}, {"ok": graph.sum(b, [0], [])})
    return graph.finish()


def _probabilities(graph: GraphWriter, x: int, rows: int, features: int, classes: int) -> tuple[int, int, int]:
    w, b = graph.read("w", [classes, features]), graph.read("b", [classes])
    shape = [rows, classes]
    return graph.softmax(graph.fully_connected(x, w, b, shape), shape), w, b


def _train(graph: GraphWriter, features: int, classes: int, rows: int) -> None:
    x, onehot = graph.tensor([rows, features]), graph.tensor([rows, classes])
    mask, step = graph.tensor([rows, 1]), graph.tensor([])
    probs, w, b = _probabilities(graph, x, rows, features, classes)
    shape, weights = [rows, classes], [classes, features]
    error = graph.multiply(graph.subtract(probs, onehot, shape), mask, shape)  # d loss / d logits
    across, inputs = graph.transpose(error, [classes, rows]), graph.transpose(x, [features, rows])
    gradient_w = graph.fully_connected(across, inputs, -1, weights)  # error^T @ x
    gradient_b = graph.sum(error, [0], [classes])
    graph.assign("w", graph.subtract(w, graph.multiply(gradient_w, step, weights), weights))
    graph.assign("b", graph.subtract(b, graph.multiply(gradient_b, step, [classes]), [classes]))
    graph.signature("train", {"x": x, "onehot": onehot, "mask": mask, "step": step}, {"probs": probs})
