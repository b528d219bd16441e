"""Commands over many images."""
