"""Learning from a verifier without a gradient: scores of randomly perturbed parameters."""

from rljax.objectives.evolution import FITNESS, low_rank_noise
from rljax.objectives.parts import Field, fields_of
from rljax.registry.families.description import Family, Reads
from rljax.registry.families.limits import COUNT, COUNT_OR_0, POSITIVE

EVOLUTION = Family(
    name="evolution",
    data="prompts with a verifier; no gradient",
    online=True,
    choices={"fitness": FITNESS},
    defaults={"fitness": "group_mean"},
    fields={
        "": {
            **fields_of(low_rank_noise, leave_out=("dtype",)),
            "noise_reuse": Field(1, int),
            "freeze_vectors": Field(True, bool),
            "modules": Field(None, tuple),
            "prompts_per_member": Field(1, int),
        }
    },
    docs={
        "fitness": "scores of members to their weights in the update (objectives/evolution.py)",
        "sigma": "standard deviation of the noise in an entry of a parameter",
        "rank": "r of the noise A B^T / sqrt(r) of a matrix",
        "noise_reuse": "updates that keep the same directions; 0: all of them",
        "freeze_vectors": "no noise in scales and biases",
        "modules": "projections with noise: query, key, value, out, gate, up, down; default: all",
        "prompts_per_member": "prompts that a member answers; their mean is its score",
    },
    limits={
        "sigma": POSITIVE,
        "rank": COUNT,
        "noise_reuse": COUNT_OR_0,
        "prompts_per_member": COUNT,
    },
    reads=Reads(
        batch={"prompts_per_step": 16, "samples_per_prompt": 8},
        # Members answer greedily: nothing here may make their answers random.
        sampling={
            "max_new_tokens": 64,
            "stop_strings": (),
            "logit_bias": (),
            "forbidden_tokens": (),
        },
    ),
)
