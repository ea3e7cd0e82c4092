"""rljax: post-training of language models in JAX. See README.md for the map of the rooms."""

__version__ = "0.1.0"
