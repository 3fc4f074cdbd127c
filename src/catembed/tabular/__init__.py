"""A table and a target in, trained embeddings out."""
