"""Backends that hold a backend."""
