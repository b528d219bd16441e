"""The shapes world: everything real but the subject (a red disc stands in for what a policy forbids)."""
