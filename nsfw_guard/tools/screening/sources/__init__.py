"""What is judged, and where its bytes are: folders, shards, tables, datasets, lists and addresses."""
