"""Tests of a folder of screening."""
