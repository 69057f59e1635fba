"""The hub side of messages: sequencing, folding, the batch commit."""
