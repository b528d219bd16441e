"""The structure of image files, read from their bytes: formats, colours, frames and embedded images."""
