"""Estimates what a scan has found, from a sample of its images that a person labels."""
