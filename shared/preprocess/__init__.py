"""Preprocessing as data: a list of small operations in the manifest, one implementation that hub and devices run.

Rules: shapes and types are worked out when the list is parsed, so a wrong list is refused at build time and never at
the first request; an error names the operation's index and the field. Numbers are computed in float32.
"""

from shared.preprocess.operations import OPERATIONS, Operation
from shared.preprocess.pipeline import Pipeline, parse_pipeline

__all__ = ["OPERATIONS", "Operation", "Pipeline", "parse_pipeline"]
