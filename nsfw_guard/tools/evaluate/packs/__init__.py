"""Further measurements on the same labelled images, each a section of the report."""
