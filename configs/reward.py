"""Reward models on a published model, one stage on a file of feedback: `:METHOD`.

    python launch/train.py --config=configs/reward.py:all_pairs \
        --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER \
        --config.reward.data.path=SCORED.jsonl --config.data.max_prompt_tokens=1024

FOLDER is a Hugging Face checkpoint with its tokenizer. The columns of the file follow from the
method: prompt, chosen, rejected; with a margin for rated_margin; prompt, completion, label for
binary_reward and generative_reward; prompt, completions (the steps of an answer), labels for
process_reward; prompt, completions, scores for the others (rljax/data/README.md). The last tenth of
the rows is held out, or `reward.data.heldout_path`. `launch/export.py` makes a folder of the result
that transformers loads, and any stage takes it as its reward (`models.reward.start_from`). A
process reward is read with `models.reward.step_score`, a generative one with
`models.reward.question`.

A method's entry holds only what differs from here and from the method's row (launch/methods.py).
Rates and batches are Tulu 3's (arXiv:2411.15124): one epoch, as reward models overfit in a second.

Without FOLDER a small network learns which letters are sorted, from the examples. That takes a
minute, from the folder of the repository:

    python launch/train.py --config=configs/reward.py:all_pairs --config.model.dtype=float32 \
        --config.data.max_prompt_tokens=10 --config.reward.data.max_completion_tokens=6 \
        --config.reward.batch.sequences_per_update=64 --config.reward.steps=60 \
        --config.reward.optimizer.learning_rate=1e-3
"""

from ml_collections import ConfigDict

EXAMPLES = "configs/examples"

STAGE = dict(
    steps=200,
    network=dict(head="reward"),
    batch=dict(sequences_per_update=512, sequences_per_micro_batch=16),
    data=dict(path=f"{EXAMPLES}/scored.jsonl", max_completion_tokens=1024),
    optimizer=dict(learning_rate=3e-6, schedule="linear", warmup_updates=6),
)

METHODS = {
    "bradley_terry": dict(data=dict(path=f"{EXAMPLES}/pairs.jsonl")),
    "rated_margin": dict(data=dict(path=f"{EXAMPLES}/rated_pairs.jsonl")),
    "goal_conditioned": dict(data=dict(path=f"{EXAMPLES}/pairs.jsonl")),
    # The weight was swept in the paper, over orders of magnitude; batches are to be large.
    "causal_reward": dict(data=dict(path=f"{EXAMPLES}/pairs.jsonl")),
    "binary_reward": dict(data=dict(path=f"{EXAMPLES}/labelled.jsonl")),
    "process_reward": dict(data=dict(path=f"{EXAMPLES}/steps.jsonl")),
    "generative_reward": dict(data=dict(path=f"{EXAMPLES}/labelled.jsonl"), network={}),
    "reward_regression": {},
    "all_pairs": {},
    "plackett_luce": {},
}


def get_config(arg: str = "") -> ConfigDict:
    """The config of a method, bradley_terry by default.

    Raises:
        ValueError: a method that is not in this file.
    """
    method = arg or "bradley_terry"
    if method not in METHODS:
        raise ValueError(
            f"Unknown method {method!r} (--config=FILE:METHOD); here: {', '.join(METHODS)}."
        )
    stage = {**STAGE, **METHODS[method]}
    stage["data"] = {**STAGE["data"], **METHODS[method].get("data", {})}
    c = ConfigDict()
    c.name = f"reward-{method}"
    c.stages = ("reward",)
    # Activations in bfloat16, parameters and moments in float32; blocks are recomputed.
    c.model = dict(dtype="bfloat16", remat="full")
    c.mesh = dict(data=1, fsdp=-1)
    # Problems belong to every config; a run whose only stage is a reward model answers none.
    c.data = dict(
        kind="jsonl",
        path=f"{EXAMPLES}/problems.jsonl",
        heldout_path=f"{EXAMPLES}/heldout.jsonl",
        max_prompt_tokens=1024,
    )
    c.scoring = dict(rewards=(dict(name="exact_match"),))
    c.evaluation = dict(every_steps=20)
    c.reward = dict(method=method, **stage)
    return c
