"""Deltas between versions: made once per pair in a confined child, kept as blobs, offered to devices."""
