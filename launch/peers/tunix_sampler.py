"""tunix's own sampler on the model of `launch/bench.py sample`, in an environment of its own.

python -m venv tunix && tunix/bin/pip install google-tunix
tunix/bin/python launch/peers/tunix_sampler.py PROMPTS SAMPLES PROMPT_TOKENS NEW_TOKENS

Prints "N tok/s", the median of three calls after one that is not counted. Every sample has
NEW_TOKENS tokens: the id that would end it is outside of the vocabulary.
"""

import statistics
import sys
import time

import numpy as np
from flax import nnx
from tunix.generate import sampler
from tunix.models.qwen3 import model as qwen3

VOCABULARY = 4096


class Numbers:
    """Token n is the word "n"."""

    def encode(self, text, **_):
        return [int(word) for word in text.split()]

    def decode(self, ids, **_):
        return " ".join(map(str, ids))

    def bos_id(self):
        return 0

    def eos_id(self):
        return VOCABULARY + 7

    def pad_id(self):
        return 1


prompts, samples, prompt_tokens, new_tokens = map(int, sys.argv[1:5])
config = qwen3.ModelConfig(
    num_layers=6,
    vocab_size=VOCABULARY,
    embed_dim=384,
    hidden_dim=1024,
    num_heads=6,
    head_dim=64,
    num_kv_heads=2,
    rope_theta=10_000,
    norm_eps=1e-6,
)
cache = sampler.CacheConfig(
    cache_size=prompt_tokens + new_tokens + 8, num_layers=6, num_kv_heads=2, head_dim=64
)
generate = sampler.Sampler(qwen3.Qwen3(config, rngs=nnx.Rngs(0)), Numbers(), cache)
ids = np.random.default_rng(0).integers(2, VOCABULARY - 1, (prompts, prompt_tokens))
batch = [" ".join(map(str, row)) for row in ids for _ in range(samples)]
seconds = []
for seed in range(4):
    started = time.perf_counter()
    found = generate(
        batch,
        max_generation_steps=new_tokens,
        max_prompt_length=prompt_tokens,
        temperature=1.0,
        top_p=1.0,
        seed=seed,
    )
    seconds.append(time.perf_counter() - started)
    assert sum(map(len, found.tokens)) == prompts * samples * new_tokens
print(f"{prompts * samples * new_tokens / statistics.median(seconds[1:]):.0f} tok/s")
