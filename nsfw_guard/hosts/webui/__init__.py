"""The adapter for sdnext, A1111, Forge and reForge."""
