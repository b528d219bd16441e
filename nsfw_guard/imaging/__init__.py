"""What a picture file holds and how viewers show it: read from its bytes, before and besides decoding."""
