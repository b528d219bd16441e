"""Commands that adapt a guard, and measure it."""
