"""INSTA: instruction-based task selection (arXiv 2404.16418)."""
