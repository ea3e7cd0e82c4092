"""A step of TRL's DPOTrainer on the model of `launch/bench.py dpo`, in an environment of its own.

python -m venv trl && trl/bin/pip install torch trl transformers datasets
trl/bin/python launch/peers/trl_dpo.py PAIRS PROMPT_TOKENS NEW_TOKENS

Prints "N tok/s": tokens of both sides, each with its prompt, by the median of five steps after one
that is not counted. A step scores the pairs with the reference, learns them and updates with AdamW.
"""

import copy
import os
import random
import statistics
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer

VOCABULARY, STEPS = 4096, 6

pairs, prompt_tokens, new_tokens = map(int, sys.argv[1:4])
words = {f"t{number}": number for number in range(VOCABULARY - 2)}
words |= {"<pad>": VOCABULARY - 2, "<eos>": VOCABULARY - 1}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
)
torch.manual_seed(0)
random.seed(0)
config = Qwen3Config(
    num_hidden_layers=6,
    vocab_size=VOCABULARY,
    hidden_size=384,
    intermediate_size=1024,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=64,
    bos_token_id=None,
    eos_token_id=VOCABULARY - 1,
    pad_token_id=VOCABULARY - 2,
)


def text(count: int) -> str:
    """Random words, with a blank before each."""
    return "".join(f" t{random.randrange(VOCABULARY - 2)}" for _ in range(count))


# The trainer adds the id that ends a completion.
rows = [
    {
        "prompt": text(prompt_tokens),
        "chosen": text(new_tokens - 1),
        "rejected": text(new_tokens - 1),
    }
    for _ in range(pairs * STEPS)
]
seconds: list[float] = []


class Clock(TrainerCallback):
    """Notes how long each step took."""

    begun = 0.0

    def on_step_begin(self, *_, **__):
        """A step begins when its first pass does; fetching its rows came before."""
        Clock.begun = Clock.begun or time.perf_counter()

    def on_step_end(self, *_, **__):
        """The next step begins here."""
        now = time.perf_counter()
        seconds.append(now - Clock.begun)
        Clock.begun = now


arguments = DPOConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=pairs,
    max_length=prompt_tokens + new_tokens,
    beta=0.1,
    learning_rate=1e-6,
    max_steps=STEPS,
    logging_steps=STEPS,
    report_to=[],
    save_strategy="no",
    use_cpu=not torch.cuda.is_available(),
    bf16=False,
    gradient_checkpointing=False,
    disable_tqdm=True,
)
model = Qwen3ForCausalLM(config)
trainer = DPOTrainer(
    model=model,
    ref_model=copy.deepcopy(model),
    args=arguments,
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    callbacks=[Clock()],
)
trainer.train()
median = statistics.median(seconds[1:])
print(f"{2 * pairs * (prompt_tokens + new_tokens) / median:.1f} tok/s")
