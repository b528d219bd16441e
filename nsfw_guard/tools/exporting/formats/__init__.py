"""The files of each target, written and nothing more."""
