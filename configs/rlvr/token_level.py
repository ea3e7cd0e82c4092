"""Methods without a critic that differ in how each token counts: `:METHOD`.

How to run them and where numbers without a comment come from: base.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch, TWO_UPDATES = BASE["batch"], BASE["TWO_UPDATES"]

# A model of 3 B parameters (verl's script for GSPO): 4 updates a step.
GSPO = dict(batch=batch(512, 16, update=128))

# Qwen2.5-Math-7B on DAPO-Math-17k (the script of STEER, arXiv:2510.10150, where Clip-Cov is run as
# well): 16 updates a step, in which GRPO's entropy falls.
ENTROPY = dict(batch=batch(512, 8, update=32))

# DeepSeek-R1-Distill-Qwen-7B on DeepScaleR (arXiv:2505.12366; 1.5B: twice the learning rate).
DISCO = dict(
    batch=batch(128, 8, update=32),
    sampling=dict(max_new_tokens=8192, temperature=0.6),
)

METHODS = {
    "gspo": GSPO,
    "luspo": GSPO,
    # Qwen2.5-0.5B on GSM8K, verl's example: mini-batches of 128 prompts. It also has a KL of weight
    # 0.001 (k3, in the loss), the paper has none.
    "cispo": dict(batch=batch(256, 8, update=128)),
    "sapo": dict(batch=TWO_UPDATES),
    "gmpo": dict(batch=TWO_UPDATES),
    "vespo": dict(batch=TWO_UPDATES),
    "dppo_tv": dict(batch=TWO_UPDATES),
    "dppo_kl": dict(batch=TWO_UPDATES),
    "dro": dict(batch=TWO_UPDATES),
    "clip_cov": ENTROPY,
    "kl_cov": ENTROPY,
    "steer": ENTROPY,
    # Qwen3-14B-base on DAPO-Math-17k, on-policy (arXiv:2510.03222); off-policy: 32 prompts an
    # update. rare_share is that of 14B, 0.01; of 32B 0.005. Top-k and top-p stay off: the proxy is
    # of what was sampled from.
    "lp_reg": dict(
        steps=1000,
        max_prompt_tokens=2048,
        batch=batch(256, 8),
        sampling=dict(max_new_tokens=8192),
    ),
    # Qwen2.5-Math-7B on DAPO-Math-17k (arXiv:2509.16591 and its script), with DAPO's soft penalty
    # of the last 4096 tokens.
    "hapo": dict(
        batch=batch(512, 16, update=32),
        objective=dict(reward_shaping="soft_overlong", overlong_length=10240, overlong_buffer=4096),
        sampling=dict(max_new_tokens=10240),
        optimizer=dict(weight_decay=0.1),
    ),
    "top_entropy": dict(batch=TWO_UPDATES),
    # The paper's shares of rows and tokens were not seen; those of the row are ours.
    "d3s": dict(batch=TWO_UPDATES),
    "disco": DISCO,
    "disco_b": DISCO,
    "disco_ratio": DISCO,
    # The recipe of tinker-cookbook: 512 prompts x 4 samples. Name the teacher, a model with the
    # same tokenizer: --config.rl.models.teacher.start_from=TEACHER. The model itself has nothing
    # to teach, and is refused.
    "opd": dict(
        models=dict(teacher=dict(start_from="model")),
        batch=batch(512, 4),
        sampling=dict(max_new_tokens=4096),
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
