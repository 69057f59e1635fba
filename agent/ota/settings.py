"""What may be tuned about installing; every value has a default that is right for a device in the field."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["OtaSettings"]

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1, le=1000)]


class OtaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units are in the names.

    retry_*: between attempts at a whole installation after a failure that may pass (hub away, disk full).
    transfer_*: between attempts at one request within an installation. min_bytes_per_s: below this rate over
    `rate_window_s` a transfer is aborted and resumed later. delta_wait_s: how long to wait for a delta that the hub is
    just making, before the whole bundle is fetched. check_timeout_s, fetch_timeout_s, unpack_timeout_s: after
    that the worker is killed. probe_*: limits of the child that tries a new version. sandbox_user: the account that
    this child changes to when the agent is root ("" stays root, without its powers). load_timeout_s: for loading a
    version into the agent. probation_hang_s: a prediction on probation may take that long at the least
    before it counts as hung. stable_s: an agent that ran this long is not in a crash loop. checkpoint_s: how often
    probation notes how far it got. profile_window: an assignment without a window waits for that of the profile.
    held_tick_s: how often what waits looks at the clock.
    """

    retry_base_s: Seconds = 5.0
    retry_cap_s: Seconds = 900.0
    max_attempts: Count = 30
    transfer_retry_base_s: Seconds = 1.0
    transfer_retry_cap_s: Seconds = 60.0
    transfer_max_attempts: Count = 6
    connect_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 30.0
    min_bytes_per_s: Annotated[int, Meta(ge=1, le=1 << 30)] = 256
    rate_window_s: Seconds = 60.0
    delta_wait_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    metadata_timeout_s: Seconds = 60.0
    check_timeout_s: Seconds = 300.0
    fetch_timeout_s: Annotated[float, Meta(gt=0, le=7 * 86400)] = 86400.0
    unpack_timeout_s: Seconds = 600.0
    probe_timeout_s: Seconds = 60.0
    probe_cpu_s: Annotated[int, Meta(ge=1, le=3600)] = 50
    probe_runs: Count = 20
    sandbox_user: Annotated[str, Meta(max_length=32)] = "nobody"
    load_timeout_s: Seconds = 120.0
    probation_tick_s: Seconds = 1.0
    probation_min_requests: Count = 20
    probation_max_error_percent: Annotated[int, Meta(ge=0, le=100)] = 5
    probation_hang_s: Seconds = 10.0
    checkpoint_s: Seconds = 60.0
    stable_s: Seconds = 60.0
    profile_window: bool = False
    held_tick_s: Seconds = 30.0
