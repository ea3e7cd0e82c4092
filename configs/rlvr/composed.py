"""Methods that read more of several rewards than their sum: `:METHOD`.

How to run them and where numbers without a comment come from: base.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch = BASE["batch"]

# A right answer, and a length that stays clear of the limit: a constraint, or another reward.
_SHORT = dict(name="length", options=dict(max_tokens=3072, cache_tokens=1024))
CONSTRAINED = (dict(name="math"), dict(_SHORT, constraint=True, right_at=0.0))
SEVERAL = (dict(name="math"), dict(_SHORT, weight=0.5))

METHODS = {
    # In the paper the reward is a model (rl.models.reward.start_from) and constraints are rules and
    # models that judge; here a sample must end within the limit. 1024 samples a step.
    "crpg": dict(rewards=CONSTRAINED),
    "crraft": dict(rewards=CONSTRAINED),
    "grpo_components": dict(rewards=SEVERAL),
    # Qwen3-8B on MATH (the scripts of arXiv:2509.11452): 64 prompts in two updates, completions of
    # 2048 tokens; here in one, which needs no ratio.
    "rloo_hypervolume": dict(
        rewards=SEVERAL,
        max_prompt_tokens=2048,
        batch=batch(64, 8),
        sampling=dict(max_new_tokens=2048),
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
