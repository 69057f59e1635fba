"""How many devices may be assigned now: a bucket of credit that fills with engine time. Whole numbers only.

Credit is counted in sixtieths of a device, so that any rate per minute adds up exactly over seconds. It never holds
more than one minute's worth, so what a closed window, a pause or a stopped hub left unused is never made up for in a
burst. Time comes from `hub.rollouts.clockwork`, which a jump of the clock moves by at most one step.
"""

from __future__ import annotations

from hub.rollouts.plan import Rate

__all__ = ["UNITS", "credit_after", "per_minute"]

UNITS = 60
"""Credit for one device."""


def per_minute(rate: Rate, notified: int, succeeded: int) -> int:
    """Devices a minute at this point: `base`, grown once for each `every` devices, at most `cap`.

    rate.on_success: growth follows devices that succeeded, otherwise devices that were assigned.
    """
    steps = (succeeded if rate.on_success else notified) // rate.every
    scaled, whole = rate.base * 100, rate.cap * 100
    while steps > 0 and scaled < whole and rate.factor_percent > 100:
        scaled = scaled * rate.factor_percent // 100
        steps -= 1
    return min(scaled, whole) // 100


def credit_after(credit: int, devices_per_minute: int, elapsed_s: int) -> int:
    """The credit after `elapsed_s` more seconds; a minute's worth is the most."""
    return min(credit + devices_per_minute * elapsed_s, devices_per_minute * UNITS)
