"""`scripts/fleet_sim`: thousands of simulated agents in one process that speak the real protocols to a real hub."""
