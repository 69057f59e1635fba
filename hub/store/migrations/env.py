"""What Alembic runs: the migrations, on the connection that `hub.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from hub.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
