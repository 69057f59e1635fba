"""Drift: what "as before" means for a version (the reference), and how values become integer counts.

The same code makes the reference where models are built, counts on devices, and reads what devices send. Rules: counts
are integers and add up exactly, over time and over devices; everything has a bound; nothing here does I/O.
"""
