"""LayerSkip (Elhoushi et al., ACL 2024, arXiv 2404.16710): early exits in training, self-speculation in decoding."""
