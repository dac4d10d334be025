"""Small weights and tokenizers made by the configs of this repository."""
