"""Decoding: batched, cached, bound to a grammar."""
