"""Early stopping of generations that are certain to be blocked."""
