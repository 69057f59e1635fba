"""What hub and agent share: wire structs, bundle format, preprocessing, runtime adapter, ids, errors and bounds.

This package imports neither `hub` nor `agent`.
"""

__version__ = "0.1.0"
