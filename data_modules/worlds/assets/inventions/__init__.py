"""Plans and parts of invented assets, one kind a file."""
