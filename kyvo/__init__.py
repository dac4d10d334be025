"""Kyvo: one language model over text, images and structured 3D scenes."""

__version__ = "0.1.0"
