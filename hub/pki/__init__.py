"""The hub's two certificate authorities and what they issue."""
