"""Gathers real, harmless images from packages."""
