"""Networks that score images, by the library that runs them."""
