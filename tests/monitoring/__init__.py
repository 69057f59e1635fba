"""What the hub makes of the fleet's counters."""
