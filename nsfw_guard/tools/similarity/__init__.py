"""Search for images by likeness, over the embeddings of a scan."""
