"""Data generators: worlds whose scenes, images, questions and instructions are made here."""
