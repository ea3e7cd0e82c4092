"""Methods without a critic that differ in what a sample is compared with: `:METHOD`.

How to run them and where numbers without a comment come from: base.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch, TWO_UPDATES = BASE["batch"], BASE["TWO_UPDATES"]

# Qwen2.5-Math-7B on MATH, 1024 prompts x 8, 4 updates a step, 4096 tokens of context (the script of
# arXiv:2506.01347; that of NGRPO, arXiv:2509.18851, too).
MATH = dict(batch=batch(1024, 8, update=256))

# Qwen2.5-Math-7B on 46k problems of OpenR1-Math (arXiv:2509.23962): 16 updates a step, 2048 tokens
# of prompt, 8192 of completion; the schedules between the halves are those of 150 steps.
CANON = dict(
    steps=150,
    max_prompt_tokens=2048,
    batch=batch(512, 16, update=32),
    sampling=dict(max_new_tokens=8192),
    optimizer=dict(warmup_updates=5, weight_decay=0.1),
)

# DeepSeek-R1-Distill-Qwen on DeepScaleR (arXiv:2510.15110): the limit of 4000 tokens is the
# penalty. Judge with a long one: --config.evaluation.max_new_tokens=32768. The weight decay is the
# script's.
DLER = dict(
    steps=450,
    batch=batch(512, 16, update=64),
    sampling=dict(max_new_tokens=4000),
    optimizer=dict(weight_decay=0.01),
)

METHODS = {
    "reinforce": {},
    "reinforce_batch": {},
    "reinforce_pp": dict(batch=TWO_UPDATES),
    "reinforce_pp_baseline": dict(batch=TWO_UPDATES),
    "rloo": {},
    "remax": {},
    # The weight of the KL, 0.04, is the paper's; most later scripts have none: then set
    # objective.kl_placement to "none", which saves the reference policy.
    "grpo": dict(batch=TWO_UPDATES),
    "dr_grpo": dict(batch=TWO_UPDATES),
    # Qwen2.5-32B on DAPO-Math-17k (arXiv:2503.14476 and its script): 16 updates a step.
    "dapo": dict(
        batch=batch(512, 16, update=32),
        objective=dict(dual_clip=10.0),  # the script's; the paper has none
        sampling=dict(max_new_tokens=20480),
        optimizer=dict(weight_decay=0.1),
    ),
    # Qwen3-4B and 8B, base models (arXiv:2508.08221). The study's sampling is truncated a little.
    "lite_ppo": dict(
        batch=TWO_UPDATES,
        sampling=dict(max_new_tokens=8192, temperature=0.99, top_p=0.99, top_k=100),
    ),
    "gpg": {},
    "opo": {},
    # Qwen3-1.7B and 4B (its script): one epoch; other sizes are set outside of what was read.
    "maxrl": dict(optimizer=dict(clip_norm=0.3)),
    "pass_at_k": dict(batch=TWO_UPDATES),
    # Qwen2.5-Math on NuminaMath (the code of arXiv:2505.02391): 1024 samples a step; for RAFT++ in
    # updates of 256.
    "raft": dict(batch=batch(128, 8, each_pass=16)),
    "raft_plus_plus": dict(batch=batch(128, 8, update=32)),
    # Its agents of screens (arXiv:2502.07949) have no sizes that carry over.
    "filtered": {},
    "psr": MATH,
    "nsr": MATH,
    "w_reinforce": MATH,
    # Runs of fewer than 50 steps (a review of arXiv:2510.04028): long ones drift.
    "grpo_n": dict(steps=50, batch=TWO_UPDATES),
    "gspo_n": dict(steps=50, batch=TWO_UPDATES),
    "ngrpo": MATH,
    # Qwen2.5-Math-7B on MATH (the script of arXiv:2506.02864): all of a step in one update.
    "bnpo": dict(batch=batch(32, 16)),
    "canon_inter": CANON,
    "canon_intra": CANON,
    "canon_dynamic": CANON,
    # The paper tries 0.5 to 0.96 for discouraged_scale; 0.96 cost no accuracy.
    "canon_eff": CANON,
    "dler": DLER,
    # 150 more steps from a model that DLER made: give it as model.init_from.
    "da_dler": {**DLER, "steps": 150},
    # A sample is long from objective.long_from tokens on, which depends on the model; q, the budget
    # of long ones, is objective.long_budget.
    "ibpo": {},
    # Qwen2.5-7B-Instruct (the code of arXiv:2508.20697). Samples at temperature 1 from the whole
    # vocabulary: the entropy of anything else is another one.
    "tokenbuncher": dict(
        max_prompt_tokens=320,
        batch=batch(32, 4, update=8),
        sampling=dict(max_new_tokens=1024),
    ),
    "copg_on_policy": {},
}

get_config = functools.partial(BASE["build"], METHODS)
