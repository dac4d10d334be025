"""Metrics as arithmetic, in torchmetrics form."""
