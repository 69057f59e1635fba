"""Traces of deployments."""
