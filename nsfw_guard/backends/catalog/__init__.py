"""The records of the built-in models."""
