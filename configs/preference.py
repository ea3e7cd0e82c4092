"""Preference objectives on a published model, one stage on pairs: `:METHOD`.

    python launch/train.py --config=configs/preference.py:ipo \
        --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER \
        --config.preference.data.path=PAIRS.jsonl \
        --config.data.path=TRAIN.jsonl --config.data.heldout_path=HELDOUT.jsonl

FOLDER is a Hugging Face checkpoint with its tokenizer, PAIRS.jsonl has the columns `prompt`,
`chosen` and `rejected` (text or messages), the other two hold problems that the model is judged by.
`mdpo` and `mipo` read lists of answers as `chosen` and `rejected`, `copg` the columns `prompt`,
`completions` and `scores` (rljax/data/README.md). Parameters are split over all devices.

A method's entry holds only what differs from here and from the method's row (launch/methods.py),
from its paper or the scripts of its authors, or nothing, where neither was seen. No figures are
promised: they depend on the model and the pairs.

Without FOLDER a small network learns to sort letters from the pairs of the examples, and learns
little. That shows in a minute whether a config runs, from the folder of the repository:

    python launch/train.py --config=configs/preference.py:ipo,smoke \
        --config.preference.data.max_completion_tokens=8 --config.evaluation.max_new_tokens=8
"""

import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def pairs(count: int) -> dict[str, int]:
    """The batch of an update; the config counts sequences, and a pair is two."""
    return dict(sequences_per_update=2 * count, sequences_per_micro_batch=min(2 * count, 16))


def answers(prompts: int, each: int) -> dict[str, int]:
    """The batch of an update, with room for so many answers to each prompt."""
    return dict(
        samples_per_prompt=each,
        sequences_per_update=prompts * each,
        sequences_per_micro_batch=each * max(16 // each, 1),
    )


# 64 pairs and 1e-6: DPO's own, and most others'. Completions of 512 tokens.
STAGE = dict(
    steps=200,
    batch=pairs(64),
    data=dict(path="configs/examples/pairs.jsonl", max_completion_tokens=512),
    optimizer=dict(learning_rate=1e-6, schedule="linear", warmup_updates=20),
)

METHODS = {
    "dpo": {},
    "cdpo": {},
    "robust_dpo": dict(batch=pairs(16)),
    # Tulu 3, 8B; 2e-7 at 70B.
    "dpo_norm": dict(
        batch=pairs(128),
        data=dict(max_completion_tokens=2048),
        optimizer=dict(learning_rate=5e-7),
    ),
    "ld_dpo": {},
    "ipo": {},
    "ipo_sum": {},
    "hinge": {},
    "exo": {},
    "nca": dict(batch=pairs(32), optimizer=dict(learning_rate=5e-6)),
    "bco_pair": dict(batch=pairs(128), optimizer=dict(learning_rate=5e-7)),
    "sppo": dict(optimizer=dict(learning_rate=5e-7)),
    "aot": {},
    "aot_unpaired": {},
    "apo_zero": dict(optimizer=dict(learning_rate=2e-7)),
    "apo_down": dict(optimizer=dict(learning_rate=2e-7)),
    "discopop": dict(optimizer=dict(learning_rate=5e-7)),
    "f_dpo": {},
    "chi_po": {},
    "rpo": {},
    # LLaDA-8B (arXiv:2505.19223): 350k pairs once, of up to 4096 tokens with their prompts. Give a
    # checkpoint that sees both ways; without one set model.causal=False.
    # Online: the policy writes pairs that its constraints and its reward choose (CGPO):
    # --config.preference.data.source=sampled_pairs --config.preference.data.pair_rule=constrained
    "codpo": {},
    "vrpo": dict(optimizer=dict(learning_rate=5e-7, schedule="cosine", warmup_updates=15, b2=0.95)),
    "mpo": dict(optimizer=dict(learning_rate=5e-6)),
    "wpo": {},
    "cpo": dict(optimizer=dict(learning_rate=1e-4)),
    # Llama-3-Base.
    "simpo": dict(batch=pairs(128), optimizer=dict(learning_rate=6e-7)),
    "alphapo": dict(batch=pairs(128), optimizer=dict(learning_rate=7e-7)),
    # Mistral.
    "orpo": dict(optimizer=dict(learning_rate=5e-6, warmup_updates=200)),
    "genarm": {},
    # Two moves of the reference; the paper has one epoch.
    "tr_dpo": dict(steps=1500, optimizer=dict(clip_norm=2.0, warmup_updates=100)),
    # Room for groups of 5 and 5, and of 3 and 3: the paper's figures are of 3 and of 5, and its
    # mIPO is better with 3. Rate and batch are DPO's, as the paper's were not seen.
    "mdpo": dict(batch=answers(64, 10), data=dict(path="configs/examples/groups.jsonl")),
    "mipo": dict(batch=answers(64, 6), data=dict(path="configs/examples/groups.jsonl")),
    # Pairs in the paper: 128 of them in an update.
    "copg": dict(batch=answers(128, 4), data=dict(path="configs/examples/scored.jsonl")),
}


def build(methods: Mapping[str, Mapping[str, Any]], arg: str = "") -> ConfigDict:
    """The config of a method.

    Args:
        methods: method -> its values of the stage; sections are laid over those of `STAGE`, a batch
            replaces that of `STAGE` whole.
        arg: the method; "" is the first one.

    Raises:
        ValueError: a method that is not in this file.
    """
    arg = arg or next(iter(methods))
    if arg not in methods:
        raise ValueError(
            f"Unknown method {arg!r} (--config=FILE:METHOD); here: {', '.join(methods)}."
        )
    stage = {**STAGE, **methods[arg]}
    for section in ("data", "optimizer"):
        stage[section] = {**STAGE[section], **methods[arg].get(section, {})}
    c = ConfigDict()
    c.name = f"preference-{arg}"
    c.stages = ("preference",)
    # Activations in bfloat16, parameters and moments in float32; blocks are recomputed.
    c.model = dict(dtype="bfloat16", remat="full")
    c.mesh = dict(data=1, fsdp=-1)
    c.data = dict(
        kind="jsonl",
        path="configs/examples/problems.jsonl",
        heldout_path="configs/examples/heldout.jsonl",
        max_prompt_tokens=512,
    )
    c.scoring = dict(rewards=(dict(name="exact_match"),))
    c.evaluation = dict(every_steps=50, samples_per_prompt=0, max_new_tokens=512)
    c.preference = dict(method=arg, **stage)
    return c


get_config = functools.partial(build, METHODS)
