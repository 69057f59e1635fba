"""Federated training: rounds, admission of updates, aggregation, and the way back into the registry."""
