"""Making `.tflite` models without TensorFlow: a dense int8 extractor and a trainable softmax head.

The graphs are written with the flatbuffer schema that comes with the TFLite runtime and use built-in operations only,
so that every device can run, and later train, them.
"""

from hub.modelkit.dense import dense_relu
from hub.modelkit.head import softmax_head
from hub.modelkit.quantise import quantise_int8

__all__ = ["dense_relu", "quantise_int8", "softmax_head"]
