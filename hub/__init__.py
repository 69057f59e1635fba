"""The hub: registry, trust, deployments, ingest and fleet state, behind one HTTPS API."""
