"""LightningModules, losses and optimisers."""
