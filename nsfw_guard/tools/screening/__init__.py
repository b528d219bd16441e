"""Jobs that judge many images: they may be ended at any moment, and go on where they stopped."""
