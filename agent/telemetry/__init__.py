"""What the device tells of itself: an inventory at start, a heartbeat every telemetry interval."""
