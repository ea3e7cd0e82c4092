"""Tokens, records and rows: numpy and grain, no jax arrays."""
