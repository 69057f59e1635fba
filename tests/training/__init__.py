"""What a device keeps to train on, and when it may train."""
