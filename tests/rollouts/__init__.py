"""Tests of rollouts: the pure core."""
