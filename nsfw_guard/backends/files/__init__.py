"""Model folders and files: found, bounded, checked before a library opens them."""
