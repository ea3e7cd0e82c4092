"""Learning from demonstrations."""

from rljax.registry.method import Method

ROWS = (Method("sft", "supervised", "-", "negative log-likelihood of demonstrations", {}),)
