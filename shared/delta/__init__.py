"""The difference between two bundles, small, exact and strictly read.

A delta is worth nothing by itself: its result counts only when it is, byte for byte, the bundle whose digest and
length the release metadata names. So a bad one costs bytes and time, never correctness.
"""
