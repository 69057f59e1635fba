"""A candidate's process that never becomes ready."""

from __future__ import annotations

import time

time.sleep(600.0)
