"""Making `.tflite` models without TensorFlow: a dense int8 extractor, and what trains: a softmax head, a network.

The graphs are written with the flatbuffer schema that comes with the TFLite runtime and use built-in operations only,
so that every device can run, and later train, them.
"""

from hub.modelkit.dense import dense_relu
from hub.modelkit.head import softmax_head
from hub.modelkit.mlp import mlp_head, mlp_weights, passthrough
from hub.modelkit.quantise import quantise_int8

__all__ = ["dense_relu", "mlp_head", "mlp_weights", "passthrough", "quantise_int8", "softmax_head"]
