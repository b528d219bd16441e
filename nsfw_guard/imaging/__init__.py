"""Decoding of image files, and preparation of images for a model."""
