"""Jobs over many pictures and models: plain functions, which the commands print."""
