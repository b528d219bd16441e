"""Measures a guard on images whose content is known."""
