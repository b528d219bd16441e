"""Teaches a model from labelled images: its last layer, its last blocks, or all of it."""
