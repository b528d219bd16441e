"""Who is told of every verdict: the counter, the audit log."""
