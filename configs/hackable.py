"""A reward that can be hacked, and what is done about it: `configs/hackable.py:METHOD`.

Two rewards stand for a score that peaks where each has a certain value
(configs/examples/hackable_rewards.py). Training sees the two; the true score is logged beside them
as `reward/true`. PPO adds them up with fixed weights, CRPG and CRRAFT reward only what satisfies a
constraint, mu_ppo and xi_ppo hold each at its threshold by a weight that is learned. All begin with
random weights, and take 128 samples a step. One command runs all of them:

    python launch/sweep.py --config=configs/hackable.py --sweep=configs/sweeps/hackable.py \
        --seeds=3 --parallel=1 --metric=train/reward/true --workdir=runs/hackable
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

REWARDS = Path("configs/examples/hackable_rewards.py")
OWN = runpy.run_path(str(Path(__file__).with_name("examples") / REWARDS.name))

# Long enough for the sum of both rewards to pass the peak of the true score.
STEPS, TOKENS = 80, 16
END = 1  # of the symbols: the token with which a text ends


def _reward(function: str, **fields: object) -> dict[str, object]:
    return dict({"name": f"{REWARDS}:{function}", "as": function, "right_at": 1.0}, **fields)


PROXIES = (_reward("digits"), _reward("letters"))
TRUE = _reward("true_score", heldout_of="digits") | {"as": "true"}
CONSTRAINT = _reward("within", constraint=True)

# A critic that shares the policy's trunk; two epochs of two updates.
_PPO = dict(
    batch=dict(sequences_per_update=64, epochs_per_step=2),
    critic=dict(trunk="shared", learning_rate=1e-2),
)
# The same weight of the KL in all three.
_KL = dict(kl_weight=0.01)
_HELD = dict(_KL, thresholds=(OWN["DIGITS"], OWN["LETTERS"]))

METHODS = {
    "ppo": dict(_PPO, objective=_KL),
    "crpg": {},
    "crraft": {},
    "mu_ppo": dict(_PPO, objective=_HELD),
    "xi_ppo": dict(_PPO, objective=_HELD),
}
CONSTRAINED = ("crpg", "crraft")


def get_config(arg: str = "ppo") -> ConfigDict:
    """The config of a method.

    Raises:
        ValueError: for a method that is not compared.
    """
    method = arg or "ppo"
    if method not in METHODS:
        raise ValueError(
            f"Unknown method {method!r} (--config=FILE:METHOD); here: {', '.join(METHODS)}."
        )
    stage = METHODS[method]
    c = ConfigDict()
    c.name = "hackable"
    c.stages = ("rl",)
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2, remat="none")
    c.tokenizer = dict(path="symbols")
    c.data = dict(
        kind="symbols",
        tasks=(dict(name="sort", min_length=6, max_length=8),),
        train_size=1024,
        heldout_size=64,
        max_prompt_tokens=9,
    )
    rewards = (*PROXIES, TRUE, *([CONSTRAINT] if method in CONSTRAINED else []))
    c.scoring = dict(rewards=rewards, workers=0)
    c.evaluation = dict(samples_per_prompt=0, max_new_tokens=TOKENS, every_steps=20)
    c.reporting = dict(writers=("jsonl",))
    batch = dict(prompts_per_step=16, samples_per_prompt=8, **stage.get("batch", {}))
    c.rl = dict(
        method=method,
        steps=STEPS,
        batch=batch,
        # All texts are equally long: a short one has few shares to choose from.
        sampling=dict(max_new_tokens=TOKENS, forbidden_tokens=(END,)),
        optimizer=dict(learning_rate=1e-3, warmup_updates=5),
        **{name: value for name, value in stage.items() if name != "batch"},
    )
    return c
