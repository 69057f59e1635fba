"""The structs that cross the network. MessagePack on MQTT, JSON on HTTP.

Every message has `schema_version`. Unknown fields are ignored, so that an older agent works with a newer hub; a field
is only ever added with a default. Golden files under `tests/golden/wire/` pin each version's bytes.
"""
