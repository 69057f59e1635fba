"""Gates: what a version has to prove on held-out data before anyone may sign it."""
