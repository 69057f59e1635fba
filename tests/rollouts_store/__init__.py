"""Rollouts with the hub's real services and databases; devices are simulated by what they would send."""
