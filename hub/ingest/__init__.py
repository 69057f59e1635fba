"""What devices send, applied exactly once: sequencing, folding into fleet state, and the transaction around both."""
