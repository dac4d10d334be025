"""Grids of experiments: what is compared, its runs, and the table of what they reached."""
