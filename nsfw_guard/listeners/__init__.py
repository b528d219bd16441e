"""Listeners, which are called with every verdict: the counter and the audit log."""
