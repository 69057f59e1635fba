"""Inference on the device: models in memory, hot swap, counters, and the local prediction API.

Rules: a swap drops no request; a caller's bad input never counts as the model's error; every queue has a bound; small
models answer on the event loop's thread, slow ones in a thread of their own.
"""
