"""Model folders and files: found, limited and checked before a library opens them."""
