"""What the bytes of a file say before and besides decoding: formats, colours, frames, pictures beside the picture."""
