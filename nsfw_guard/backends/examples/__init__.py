"""Example images that block or allow what is like them, at once and without training."""
