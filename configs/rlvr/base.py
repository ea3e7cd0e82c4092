"""What the configs of the policy-gradient methods share: one stage on a published model.

    python launch/train.py --config=configs/rlvr/baselines.py:dapo \
        --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER \
        --config.data.path=TRAIN.jsonl --config.data.heldout_path=HELDOUT.jsonl

FOLDER is a Hugging Face checkpoint (Qwen 2.5 or 3, say) with its tokenizer. The JSONL files have
the columns `prompt` (text, or chat messages) and `reference` (compared by math-verify with the last
boxed answer), for hpt and luffy `completion` too: a worked solution; for dump `source`, a label,
for guide_grpo and scaf_grpo `hint`, for the latter a text or tiers of parts; for gain_rl what
`launch/select.py angle` writes.
Parameters are split over all devices; on a pod slice give some of them to `mesh.tensor`, and set
`rl.batch.sequences_per_micro_batch` to what the memory holds. Methods with a critic train a second
network of the same size.

A method's entry holds only what differs from here and from the method's row (launch/methods.py),
with the source of each number: a paper, the script that its authors or verl run, or nothing, where
neither was seen. No figures are promised: they depend on the model and the problems.

Without FOLDER a small network learns the few problems of this folder from scratch, and learns
little. That shows in a minute whether a config runs, from the folder of the repository:

    python launch/train.py --config=configs/rlvr/baselines.py:dapo,smoke \
        --config.rl.sampling.max_new_tokens=32 --config.evaluation.max_new_tokens=32
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def batch(
    prompts: int,
    samples: int,
    *,
    update: int | None = None,
    demonstrations: int = 0,
    each_pass: int = 8,
) -> dict[str, int]:
    """Sizes in prompts, as papers give them, in the units of the config.

    Args:
        prompts: of a step.
        samples: of each prompt.
        update: prompts of a mini-batch; by default one update uses the whole step.
        demonstrations: rows of a prompt beside its samples.
        each_pass: prompts of one forward and backward pass.
    """
    rows = samples + demonstrations
    sizes = dict(prompts_per_step=prompts, samples_per_prompt=samples)
    sizes["sequences_per_micro_batch"] = rows * min(each_pass, update or prompts)
    return sizes if update is None else sizes | dict(sequences_per_update=rows * update)


# 128 prompts x 8 samples, as in the study behind Lite PPO (arXiv:2508.08221). One update a step,
# for methods that do not correct for a policy that has changed since it sampled.
ONE_UPDATE = batch(128, 8)
# The same in two, so that a ratio has something to correct.
TWO_UPDATES = batch(128, 8, update=64)

STAGE = dict(
    steps=200,
    batch=ONE_UPDATE,
    # As in most scripts on Qwen2.5-Math, whose context is 4096 (NGRPO, BNPO, STEER): 1024 tokens of
    # prompt and 3072 of completion. Temperature 1, no truncation.
    sampling=dict(max_new_tokens=3072),
    # 1e-6, constant after a warm-up: nearly every script. Gradients are clipped at a norm of 1.
    optimizer=dict(learning_rate=1e-6, warmup_updates=10),
)


def build(methods: Mapping[str, Mapping[str, Any]], arg: str = "") -> ConfigDict:
    """The config of a method.

    Args:
        methods: method -> its values: `max_prompt_tokens` and columns of the data, `rewards` of the
            scoring, an `environment` that makes its problems, and those of the stage. Sections are
            laid over those of `STAGE`; a batch replaces that of `STAGE` whole.
        arg: the method.

    Raises:
        ValueError: a method that is not in this file.
    """
    if arg not in methods:
        raise ValueError(
            f"Unknown method {arg!r} (--config=FILE:METHOD); here: {', '.join(methods)}."
        )
    values = dict(methods[arg])
    c = ConfigDict()
    c.name = f"rlvr-{arg}"
    c.stages = ("rl",)
    # Activations in bfloat16, parameters and moments in float32; blocks are recomputed.
    c.model = dict(dtype="bfloat16", remat="full")
    c.mesh = dict(data=1, fsdp=-1)
    c.data = dict(
        max_prompt_tokens=values.pop("max_prompt_tokens", 1024),
        source_column=values.pop("source_column", ""),
        difficulty_column=values.pop("difficulty_column", ""),
        angle_column=values.pop("angle_column", ""),
        hint_column=values.pop("hint_column", ""),
    )
    if environment := values.pop("environment", {}):
        c.environment, c.data.kind = environment, "environment"
    else:
        c.data.update(
            kind="jsonl",
            path="configs/rlvr/problems.jsonl",
            heldout_path="configs/rlvr/heldout.jsonl",
        )
    judge = "environment" if environment else "math"
    c.scoring = dict(rewards=values.pop("rewards", (dict(name=judge),)), workers=8)
    stage = {**STAGE, **values}
    for section in ("sampling", "optimizer"):
        stage[section] = {**STAGE[section], **values.get(section, {})}
    c.rl = dict(method=arg, **stage)
    c.evaluation = dict(
        every_steps=20,
        samples_per_prompt=0 if environment else 4,  # an episode has a sample for each player
        max_new_tokens=stage["sampling"]["max_new_tokens"],
    )
    return c
