"""Rollouts: how an approved version reaches a fleet, judged by what it does after it is installed."""
