"""Adapts a guard to images whose content is known: calibration, thresholds with a promise."""
