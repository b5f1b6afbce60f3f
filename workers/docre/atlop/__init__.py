"""ATLOP (arXiv 2010.11304) with DREEAM's evidence (arXiv 2302.08675): an encoder, pooled context per pair, a bilinear
layer and an adaptive threshold. Needs torch and transformers.
"""
