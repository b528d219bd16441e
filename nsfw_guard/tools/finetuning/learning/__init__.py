"""How a network learns: by steps, or its last layer at once."""
