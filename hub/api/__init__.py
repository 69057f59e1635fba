"""The HTTP edge: routers, one error shape, authentication, paging. Nothing is decided here."""
