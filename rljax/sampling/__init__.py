"""Sampling, and the distribution that sampler and trainer share.

distribution.py  temperature, top-k, top-p, min-p; log-probabilities and entropy under them
keys.py          one random key per (seed, purpose, step, prompt id, sample index)
sampler.py       jitted prefill and decode with a KV cache
"""
