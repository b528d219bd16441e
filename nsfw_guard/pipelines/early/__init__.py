"""Stopping a generation that is certain to be blocked."""
