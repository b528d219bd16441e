"""Policies: rules, presets and prompts. No torch."""
