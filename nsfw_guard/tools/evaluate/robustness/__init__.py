"""Measures what a model still finds where an image was changed, as images on the web are."""
