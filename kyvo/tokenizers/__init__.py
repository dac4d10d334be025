"""Samples to ids and back: vocabulary, text, numbers, images, scenes, grammar."""
