"""The link to the hub: MQTT over mutual TLS, HTTPS when MQTT is blocked.

`window` and `Backoff` decide (pure), `link` drives, `mqtt` is the only module that knows paho-mqtt, `https` is a child
process so that the daemon never loads an HTTP client.
"""
