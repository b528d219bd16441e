"""Examples that block or allow."""
