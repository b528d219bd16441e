"""Writes a network for other runtimes, and only where it gives the same verdicts."""
