"""Bundles: deterministic, content-addressed archives of one model version.

A bundle is a plain ustar archive. Its first entry is `manifest.json` (canonical JSON); then come exactly the files that
the manifest lists, in its order. Every header has the one form that the writer makes, so a reader that rebuilds the
header and compares refuses links, devices, odd names, padding tricks and everything else that tar can say.
The address of a bundle is the SHA-256 of its bytes as received.
"""
