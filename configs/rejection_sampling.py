"""Rejection sampling: the policy learns those of its own samples that a verifier finds right.

A tiny model sees some demonstrations of sorting four letters (`sft`). It then samples eight answers
to each of 1024 problems, keeps at most four different right ones, and learns these from the first
model again (`round1`); the better model does the same once more (`round2`). That is RFT
(arXiv:2308.01825); with `--config.round1.data.keep=best --config.round1.data.keep_most=1` the best
answer of each problem is learned instead (RAFT, arXiv:2304.06767). STaR (arXiv:2203.14465) has one
sample of each problem, a hint where it is wrong, and rounds that all start from the first model,
with samples of the last one:

    --config.round1.batch.samples_per_prompt=1
    --config.round1.data.hint_pattern='{context};{prompt}' (both for round2 too)
    --config.round2.start_from=sft --config.round2.models.teacher.start_from=round1

    python launch/train.py --config=configs/rejection_sampling.py

Expect, on held-out problems and with seed 0: pass@1 0.102 after `sft`, 0.793 after `round1` and
0.953 after `round2`; greedy accuracy 0.609, 0.984 and 1.000.

The kept samples lie in WORKDIR/samples, one file for each round.
"""

from ml_collections import ConfigDict

PROBLEMS, HELDOUT = "configs/examples/problems.jsonl", "configs/examples/heldout.jsonl"


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "rejection-sampling"
    c.stages = ("sft", "round1", "round2")
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2)
    c.data = dict(
        kind="jsonl", path=PROBLEMS, heldout_path=HELDOUT, max_prompt_tokens=10, heldout_size=64
    )
    c.scoring = dict(rewards=(dict(name="exact_match"),))
    c.evaluation = dict(max_new_tokens=6, samples_per_prompt=4, prompts_per_batch=64)
    c.sft = dict(
        method="sft",
        steps=20,
        data=dict(source="jsonl", path=PROBLEMS, row_tokens=64),
        batch=dict(sequences_per_update=32),
        optimizer=dict(learning_rate=2e-3, warmup_updates=10),
    )
    samples = dict(
        method="sft",
        steps=20,
        data=dict(source="sampled", sampled_prompts=1024, row_tokens=64),
        sampling=dict(max_new_tokens=6),
        batch=dict(sequences_per_update=32, samples_per_prompt=8),
        optimizer=dict(learning_rate=1e-3, warmup_updates=5),
    )
    c.round1 = samples
    c.round2 = samples
    return c
