"""Makes the weights of the shapes world from nothing: `python -m nsfw_guard.demo.training --help`."""
