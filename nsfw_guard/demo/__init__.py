"""The shapes world, a demonstration: everything is real except the subject, a red disc in place of unsafe content."""
