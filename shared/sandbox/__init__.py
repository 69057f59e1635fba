"""Confining a child process that runs somebody else's model: the agent's probe and training, the hub's gate.

One implementation for both sides (`shared.sandbox.confine`). It is applied by the child to itself, before it loads
anything, and cannot be undone. `python -m shared.sandbox.trial` tries what must be impossible and says what was.
"""
