"""All that an adapter of a user interface needs: settings, one guard that never raises, and what it covers where."""
