"""What happened, who did it, and the proof that nobody changed the account of it."""
