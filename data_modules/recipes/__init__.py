"""What made data sets consist of."""
