"""Vision-language models that judge images by written rules."""
