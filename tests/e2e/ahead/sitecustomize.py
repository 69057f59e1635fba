"""Python runs this at its start where the folder is on its path: the wall clock is ahead, all else goes on as it is."""

import os
import time

_REAL_NS = time.time_ns
_AHEAD_NS = int(float(os.environ["SKERRY_TEST_AHEAD_S"]) * 1e9)

time.time_ns = lambda: _REAL_NS() + _AHEAD_NS
time.time = lambda: time.time_ns() / 1e9
