"""Solids with colours that worlds are furnished with."""
