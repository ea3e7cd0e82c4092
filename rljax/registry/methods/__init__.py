"""All methods by name, one file for each kind.

| file | its rows |
| --- | --- |
| `supervised.py` | learning from demonstrations |
| `distillation.py` | learning from a teacher |
| `baselines.py` | policy gradients without a critic: what a sample is compared with |
| `token_level.py` | the same: how each token counts |
| `composed.py` | constraints, and several rewards of which each counts by itself |
| `agents.py` | episodes of several players |
| `critic.py` | credit within a completion |
| `curricula.py` | which problems are sampled, and which groups are learned from |
| `diffusion.py` | policy gradients of masked diffusion models |
| `off_policy.py` | samples that the policy did not draw itself |
| `preference.py` | learning from pairs |
| `unpaired.py` | learning from labelled completions |
| `reward.py` | reward models |
| `evidence.py` | learning from reference answers |
| `posterior.py` | learning from right samples as the posterior weighs them |
| `evolution.py` | learning from rewards without a gradient |
| `shared.py` | parts that many rows share; no rows |
"""

from rljax.registry.method import Method
from rljax.registry.methods import (
    agents,
    baselines,
    composed,
    critic,
    curricula,
    diffusion,
    distillation,
    evidence,
    evolution,
    off_policy,
    posterior,
    preference,
    reward,
    supervised,
    token_level,
    unpaired,
)

METHODS: dict[str, Method] = {
    method.name: method
    for file in (
        supervised,
        distillation,
        baselines,
        token_level,
        composed,
        agents,
        critic,
        curricula,
        diffusion,
        off_policy,
        preference,
        unpaired,
        reward,
        evidence,
        posterior,
        evolution,
    )
    for method in file.ROWS
}
