"""Who the device is: a key that is made here and never leaves, and a certificate that the hub gives for it.

Only the command line and short-lived children import `keys`, `enrol` and `renew` (they need cryptography and httpx);
the daemon reads files through `store`.
"""
