"""When a certificate is to be renewed. Pure.

After two thirds of its lifetime, spread over the next tenth so that a fleet that was enrolled together does not come
back together; a certificate that has ended is due at once.
"""

from __future__ import annotations

from agent.identity.store import Validity

__all__ = ["renew_at_s"]

_SHARE = 2 / 3
_SPREAD = 0.1


def renew_at_s(valid: Validity, random: float) -> float:
    """The time (seconds since 1970) from which renewal is due; `random` in [0, 1) is the device's own."""
    lifetime_s = max(0.0, valid.not_after_s - valid.not_before_s)
    return valid.not_before_s + lifetime_s * (_SHARE + _SPREAD * random)
