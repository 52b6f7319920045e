"""Encoder-decoder language models and their tokenizers."""
