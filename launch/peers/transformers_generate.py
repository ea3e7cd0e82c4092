"""transformers' generate on the model of `launch/bench.py sample`, in an environment of its own.

python -m venv peers && peers/bin/pip install torch transformers
peers/bin/python launch/peers/transformers_generate.py PROMPTS SAMPLES PROMPT_TOKENS NEW_TOKENS

Prints "N tok/s", the median of three calls after one that is not counted. Every sample has
NEW_TOKENS tokens: no token ends it.
"""

import statistics
import sys
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

prompts, samples, prompt_tokens, new_tokens = map(int, sys.argv[1:5])
torch.manual_seed(0)
config = Qwen3Config(
    vocab_size=4096,
    num_hidden_layers=6,
    hidden_size=384,
    intermediate_size=1024,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=64,
    bos_token_id=0,
    eos_token_id=None,
    pad_token_id=1,
)
model = Qwen3ForCausalLM(config).eval()
if torch.cuda.is_available():
    model = model.cuda().bfloat16()
tokens = torch.randint(2, config.vocab_size, (prompts, prompt_tokens))
tokens = tokens.repeat_interleave(samples, dim=0).to(model.device)
seconds = []
with torch.no_grad():
    for _ in range(4):
        started = time.perf_counter()
        found = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=True,
            top_k=0,
        )
        assert found.shape == (prompts * samples, prompt_tokens + new_tokens)
        seconds.append(time.perf_counter() - started)
print(f"{prompts * samples * new_tokens / statistics.median(seconds[1:]):.0f} tok/s")
