"""Readers of what others publish, as samples to be packed into shards."""
