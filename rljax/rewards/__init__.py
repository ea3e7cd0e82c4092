"""Verifiers and how they are run. Nothing in this room imports jax, nor do its processes."""
