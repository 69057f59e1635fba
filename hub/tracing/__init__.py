"""Traces (OpenTelemetry), optional: from a deployment over its publication to what each device made of it."""
