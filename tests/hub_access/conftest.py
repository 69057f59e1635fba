"""Running hubs; see `tests.hub_kit`."""

from tests.hub_fixtures import kit, shared_kit

__all__ = ["kit", "shared_kit"]
