"""Training on the device, in a process of its own."""
