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

THRESHOLDS = dict(
    rewards=(dict(name="math"), _SHORT),
    batch=batch(128, 1, update=32) | dict(epochs_per_step=5),
    objective=dict(thresholds=(0.9, 0.0)),
    critic=dict(learning_rate=1e-5),
    sampling=dict(top_k=20),
)

METHODS = {
    # In the paper the reward is a model (rl.models.reward.start_from) and constraints are rules and
    # models that judge; here a sample must end within the limit. 1024 samples a step.
    "crpg": dict(rewards=CONSTRAINED),
    "crraft": dict(rewards=CONSTRAINED),
    # GPT-2 on DailyDialog (arXiv:2310.04373): 10 environments of 256 tokens a step, 5 epochs of 40
    # updates of 64 tokens, completions of 20; thresholds .238 of METEOR and .44 of the intent. Here
    # they are of other rewards, and must be found anew: of the values from which the true score
    # falls. The multipliers move 5 epochs of 4 updates a step, 10 times more rarely.
    "mu_ppo": THRESHOLDS,
    "xi_ppo": THRESHOLDS,
    "grpo_components": dict(rewards=SEVERAL),
    # Qwen3-8B on MATH (the scripts of arXiv:2509.11452): 64 prompts in two updates, completions of
    # 2048 tokens. Of that model's gradients it asks layers 10 to 25
    # (--config.rl.objective.weight_layers="(10,25)").
    "grpo_gradient_weighted": dict(
        rewards=(dict(name="math"), _SHORT),
        max_prompt_tokens=2048,
        batch=batch(64, 8, update=32),
        sampling=dict(max_new_tokens=2048),
    ),
    # The paper's sizes were not seen (arXiv:2510.21978). Its rewards belong to domains, those of a
    # replay among them: give each a `where` and the problems a column that it reads.
    "recap": dict(rewards=(dict(name="math"), _SHORT)),
    # As grpo_gradient_weighted; here in one update, which needs no ratio.
    "rloo_hypervolume": dict(
        rewards=SEVERAL,
        max_prompt_tokens=2048,
        batch=batch(64, 8),
        sampling=dict(max_new_tokens=2048),
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
