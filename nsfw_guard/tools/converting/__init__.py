"""A finished scan in the formats of other programs."""
