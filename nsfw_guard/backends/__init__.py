"""Models that score images: their records, their files, and the code that runs them."""
