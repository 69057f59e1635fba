"""Flower behind an interface of our own: the only place in the hub that knows it.

It uses Flower's internals (a SuperLink without its processes), hence the exact pin. `tests/federated/test_flower.py` is
the contract that a new version of Flower must pass before the pin moves.
"""
