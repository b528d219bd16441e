"""Deciding: rules, presets, prompts. No torch."""
