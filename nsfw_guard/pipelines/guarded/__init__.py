"""One guarded call of a pipeline, from what is handed in to what leaves."""
