"""What a person looks at: tables, grids of pictures."""
