"""Hub, device and releases as in the installer's tests."""

from tests.ota.conftest import assign, device, hub, kit, release

__all__ = ["assign", "device", "hub", "kit", "release"]
