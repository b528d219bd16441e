"""Vision-language models that judge by a written rule."""
