"""The families: methods that share a loss function and a kind of data, one file for each.

A family's file holds one record of plain data, a `Family`, and no code. Everything that a stage of
the family may choose, reads, groups by or needs is said there and nowhere else: config/ checks a
stage against its record, the rest of the registry resolves methods by it, and training/ asks it.

To add one: write its file, list the record below, and give it a class in training/families/. What
no record can say (a combination of parts that cannot work, say) is a function in config/checks.py,
which the record names. A new field of a stage's sections is a line in config/schema.py; a new field
of its objective is a keyword of a part, or a line in `fields` and `docs`.

| file | what it holds |
| --- | --- |
| `description.py` | what a record says |
| `limits.py` | what the values of fields may be |
| `shared.py` | what several families have in common: sampling, batches of rollouts, the KL |
| `supervised.py` | learning from demonstrations |
| `distillation.py` | learning from a teacher |
| `policy_gradient.py` | learning from a verifier, by comparing samples |
| `preference.py` | learning from pairs |
| `unpaired.py` | learning from labelled completions |
| `evidence.py` | learning from reference answers |
| `posterior.py` | learning from samples of the posterior |
| `evolution.py` | learning from a verifier, by perturbed parameters |
| `reward.py` | learning what is good, from pairs |
"""

from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.distillation import DISTILLATION
from rljax.registry.families.evidence import EVIDENCE
from rljax.registry.families.evolution import EVOLUTION
from rljax.registry.families.policy_gradient import POLICY_GRADIENT
from rljax.registry.families.posterior import POSTERIOR
from rljax.registry.families.preference import PREFERENCE
from rljax.registry.families.reward import REWARD
from rljax.registry.families.supervised import SUPERVISED
from rljax.registry.families.unpaired import UNPAIRED

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        SUPERVISED,
        DISTILLATION,
        POLICY_GRADIENT,
        PREFERENCE,
        UNPAIRED,
        REWARD,
        EVIDENCE,
        POSTERIOR,
        EVOLUTION,
    )
}

__all__ = ["FAMILIES", "Family", "Reads", "Together"]
