"""Attacks from outside, one table a kind: what is tried, and what stands against it."""
