"""What a scan has found, for people."""
