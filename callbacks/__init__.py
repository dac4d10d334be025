"""What is done with generated samples during validation, test and prediction."""
