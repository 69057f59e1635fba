"""The demo: a hub, five devices and a real model, driven by the same commands that a person would type."""
