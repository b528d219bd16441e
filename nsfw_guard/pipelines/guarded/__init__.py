"""One guarded call of a pipeline, from its inputs to its outputs."""
