"""Trust: the TUF repository, its online keys, people's keys and signed assignments.

Root and targets are signed offline, releases by reviewers on their own machines; the hub holds only the online keys of
snapshot, timestamp and assignments. Nothing that a client would refuse is ever published.
"""
