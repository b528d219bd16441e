"""nsfw_guard: a safety checker that plugs into any diffusion pipeline."""

from nsfw_guard.version import __version__

__all__ = ["__version__"]
