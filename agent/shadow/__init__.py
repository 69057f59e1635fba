"""A candidate beside the version that serves: asked the same, compared, counted, and never in its way."""
