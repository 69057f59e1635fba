"""Content-addressed files: what a name says is the SHA-256 of what it holds, always."""
