"""Models that score pictures: records, where they are found, and how they run."""
