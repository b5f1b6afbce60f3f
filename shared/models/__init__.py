"""What several methods need of language models, written once."""
