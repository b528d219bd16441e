"""Trains the weights of the shapes world from scratch: `python -m nsfw_guard.demo.training --help`."""
