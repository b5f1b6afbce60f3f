"""DSN, refusal suppression, and the ensemble judge (arXiv 2404.16369): how well one's own chat model keeps refusing."""
