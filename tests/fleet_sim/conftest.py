"""A real device beside the simulated one, as the tests of the installer have it."""

from tests.ota.conftest import assign, device, hub, kit, release

__all__ = ["assign", "device", "hub", "kit", "release"]
