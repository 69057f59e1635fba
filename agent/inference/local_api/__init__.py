"""The agent's local prediction API, over a Unix socket and optionally a loopback port.

Rules: it speaks public protocols (Open Inference Protocol V2, TensorFlow Serving's REST paths, TorchServe's prediction
path); every body is bounded before it is read and checked before it is used; an error has a status, a text and a code.
What changes the device (`/skerry/…`) is on the Unix socket only, where file permissions guard it.
"""
