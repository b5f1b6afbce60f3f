"""GOVSIM: whether a society sharing a renewable resource keeps it (arXiv 2404.16698). See PAPER.md beside this file."""
