"""Devices: enrolment, certificates, revocation, inventory and tags."""
