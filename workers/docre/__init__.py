"""DocRE transfer: a document-level relation dataset in a new language, with people in the loop (arXiv 2404.16506)."""
