"""What is done with images after they are judged."""
