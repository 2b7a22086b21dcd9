"""Texts to vectors: bundles, tokenizers, backends, passages."""
