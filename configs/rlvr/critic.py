"""Methods that give credit within a sample, by a critic or by values of states: `:METHOD`.

How to run them and where numbers without a comment come from: base.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch = BASE["batch"]

# verl's default. The critic begins as a copy of the policy's trunk with a head of zeros, and learns
# alone for the 50 updates that VAPO gives it (arXiv:2504.05118).
CRITIC = dict(learning_rate=1e-5, warmup_updates=50)

# RhoMath-1.1B on GSM8K (the code of arXiv:2505.23564): 512 samples a step, 8 updates, twice. 100
# updates are 3 % of all.
SPO = dict(
    batch=batch(64, 8, update=8) | dict(epochs_per_step=2),
    sampling=dict(max_new_tokens=1024, temperature=0.6, top_p=0.9),
    optimizer=dict(warmup_updates=100),
)

# GPT-2 on IMDB (arXiv:2306.11816): 112 samples a step, one of each prompt, in updates of 28, five
# times; 50 steps, learning rate 1e-5. Its network has one head more for values; here the critic has
# a trunk of its own. The guide is what the policy starts from; models.guide.start_from=FOLDER names
# a better one. Its lengths are those of base.py.
RLGF = dict(
    steps=50,
    batch=batch(112, 1, update=28, each_pass=28) | dict(epochs_per_step=5),
    optimizer=dict(learning_rate=1e-5),
    critic=CRITIC | dict(warmup_updates=0),
    models=dict(guide=dict(start_from="model")),
)

METHODS = {
    # One sample of each prompt, since the critic is the baseline; 256 as in MA-RLHF's PPO.
    "ppo": dict(batch=batch(256, 1, each_pass=64), critic=CRITIC),
    "vc_ppo": dict(critic=CRITIC),
    # Qwen2.5-32B (arXiv:2504.05118). Its verifier says 1 or -1, this one 1 or 0.
    "vapo": dict(batch=batch(512, 16), critic=CRITIC),
    # Neither window nor length was seen: a quarter of the length here.
    "t_ppo": dict(objective=dict(window_tokens=768), critic=CRITIC),
    "ppo_plus_plus": RLGF,
    "aggrevated": RLGF,
    "lols": RLGF,
    # 20 steps of the 50, as on IMDB.
    "d2lols": RLGF,
    # Gemma-7B with a reward model (arXiv:2410.02743 and its table); the row's n = 5 is that of
    # summaries, 10 is that of code.
    "ma_rlhf": dict(
        max_prompt_tokens=512,
        batch=batch(256, 1, each_pass=64),
        sampling=dict(max_new_tokens=512, temperature=0.8, top_k=50),
        optimizer=dict(warmup_updates=200),
        critic=dict(learning_rate=1e-6),
    ),
    "spo_chain": SPO,
    # The same model: 16 prompts, each with 6 x 6 x 6 leaves, and 8 updates.
    "spo_tree": dict(
        batch=batch(16, 216, update=2, each_pass=1),
        sampling=dict(max_new_tokens=1024, temperature=0.6),
    ),
    # Nemotron-Research-Reasoning-Qwen-1.5B v2 on DeepMath-103K (arXiv:2509.25454 and its code): 256
    # prompts, 8 updates; trees of 64 levels of 256 tokens; weight decay 0.1. The paper gives 50
    # steps more than the model had.
    "deepsearch": dict(
        steps=100,
        batch=batch(256, 8, update=32),
        sampling=dict(max_new_tokens=16384),
        optimizer=dict(weight_decay=0.1),
    ),
    # The code of arXiv:2410.01679, on which SPO's is built. Steps end at the tokenizer's line
    # ends: 10 in bytes, 198 and 271 in Qwen's (--config.rl.objective.step_end_tokens).
    "vineppo": SPO,
}

get_config = functools.partial(BASE["build"], METHODS)
