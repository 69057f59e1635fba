"""Over-the-air installation: from a signed assignment to a committed version, or safely back."""
