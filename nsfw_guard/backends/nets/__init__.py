"""Networks that score pictures, by the library that runs them."""
