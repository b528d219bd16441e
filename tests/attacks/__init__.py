"""What was tried against the guard, as tables: each row is something that misbehaves, and nothing of it is released."""
