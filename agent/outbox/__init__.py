"""The outbox: a bounded, durable queue between everything on the device and the network.

Each message gets the next number of a sequence without holes; the hub confirms how far it has committed and only then
are messages forgotten. When the bound is reached the oldest telemetry gives way first, and what gave way is itself
told to the hub as a `dropped` message that covers the numbers.
"""
