"""Scores of files of predictions: ours, and those of published formats."""
