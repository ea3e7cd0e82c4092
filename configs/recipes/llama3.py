"""Rounds of Llama 3 (arXiv:2407.21783, section 4): reward model, rejection sampling, SFT, DPO.

`rm` learns pairs. In each round the policy answers every prompt several times, and learns the
answer with the highest score (`sftN`); then it answers again, and DPO learns the best against the
worst, with 0.2 of the negative log-likelihood of the chosen one (`dpoN`).

    python launch/train.py --config=configs/recipes/llama3.py

is the recipe on sorting four letters with two rounds, in about two minutes of CPU time. A policy
that knows nothing has no good answer, so a stage before learns some demonstrations (`start`).
Expect, on held-out problems and with seed 0, pass@1 0.102 after `start`, 0.340 and 0.414 after
`sft1` and `dpo1`, 0.496 and 0.500 after `sft2` and `dpo2`; greedy accuracy 0.609, 0.781, 0.812,
0.922 and 0.906. With ten times DPO's rate (--config.dpo1.optimizer.learning_rate=3e-4, and of dpo2)
`dpo2` ends below `sft2`, at pass@1 0.395: the reward model also pays for sorted letters that were
not asked for.

On a published model, with the paper's rates and lengths, and its number of answers a prompt:

    python launch/train.py \
        --config=configs/recipes/llama3.py:model=FOLDER,pairs=PAIRS,train=TRAIN,heldout=HELDOUT

FOLDER is an instruction-tuned model, PAIRS holds chosen and rejected conversations, TRAIN the
prompts that are answered and HELDOUT questions with answers, in GSM8K's columns; all as JSONL, or
as Parquet if their names end so. Where the paper trains each round's SFT from the pretrained model,
on all that was kept so far and on data that people wrote, a round here goes on from the one before,
on what it kept. `rounds=N` makes N rounds; the paper has six.
"""

from typing import Any

from chain_sections import letters, pairs, questions, small_pairs, some_demonstrations
from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments

FILES = ("model", "pairs", "train", "heldout")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "[model=FOLDER,pairs=FILE,train=FILE,heldout=FILE][,rounds=N]".

    Raises:
        ValueError: for another argument, some of the files without the others, or no round.
    """
    needed = FILES if "model=" in arg else ()
    given = read_arguments(arg, "configs/recipes/llama3.py", needed, {"rounds": "2"})
    if not given["rounds"].isdigit() or int(given["rounds"]) < 1:
        raise ValueError(f"rounds={given['rounds']}: a number of at least 1 (llama3.py:rounds=N).")
    sections = published(given) if needed else tiny()
    first = "start" if "start" in sections else "model"
    c = ConfigDict()
    c.name = "llama3"
    stages = ["start", "rm"] if first == "start" else ["rm"]
    for name in ("model", "mesh", "data", "scoring", "evaluation", *stages):
        if name in sections:
            c[name] = sections[name]
    c.rm.method, c.rm.network = "bradley_terry", dict(head="reward")
    for number in range(1, int(given["rounds"]) + 1):
        for kind, method in (("sft", "sft"), ("dpo", "rpo")):
            name = f"{kind}{number}"
            c[name] = dict(method=method, models=dict(reward=dict(start_from="rm")))
            c[name].update(sections[kind])
            stages.append(name)
    c.sft1.start_from = first  # not from the reward model, the stage before
    c.stages = tuple(stages)
    return c


def tiny() -> dict[str, Any]:
    """Sections of the run from scratch."""
    return dict(
        **letters(),
        start=dict(method="sft", **some_demonstrations()),
        rm=dict(
            steps=400,
            data=small_pairs(),
            objective=dict(center_weight=0.01),
            batch=dict(sequences_per_update=128),
            optimizer=dict(learning_rate=2e-3, schedule="linear", warmup_updates=10),
        ),
        sft=dict(
            steps=20,
            data=dict(
                source="sampled", keep="best", keep_most=1, sampled_prompts=1024, row_tokens=64
            ),
            sampling=dict(max_new_tokens=6),
            batch=dict(sequences_per_update=32, samples_per_prompt=10),
            optimizer=dict(learning_rate=1e-3, warmup_updates=5),
        ),
        dpo=dict(
            steps=40,
            objective=dict(beta=0.1, nll_weight=0.2),
            data=dict(
                source="sampled_pairs",
                pair_rule="best_worst",
                pair_prompts=512,
                max_completion_tokens=6,
            ),
            sampling=dict(max_new_tokens=6),
            batch=dict(sequences_per_update=64, samples_per_prompt=10),
            optimizer=dict(learning_rate=3e-5, warmup_updates=5),
        ),
    )


def published(given: dict[str, str]) -> dict[str, Any]:
    """Sections of the run on a published model: the paper's rates; batches are ours."""

    sampling = dict(max_new_tokens=2048)
    return dict(
        **questions(given, tokens=2048, every=500),
        rm=dict(
            steps=1_000,
            data=pairs(given["pairs"]),
            batch=dict(sequences_per_update=512, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=3e-6, schedule="linear"),
        ),
        # 10 to 30 answers of each prompt, the best one is learned; 1e-5 for some 9,000 updates.
        sft=dict(
            steps=9_000,
            data=dict(
                source="sampled", keep="best", keep_most=1, sampled_prompts=50_000, row_tokens=4096
            ),
            sampling=sampling,
            batch=dict(
                sequences_per_update=128, sequences_per_micro_batch=16, samples_per_prompt=10
            ),
            optimizer=dict(learning_rate=1e-5),
        ),
        # 1e-5, beta 0.1 and 0.2 of the likelihood of the chosen answer.
        dpo=dict(
            steps=1_000,
            objective=dict(beta=0.1, nll_weight=0.2),
            data=dict(
                source="sampled_pairs",
                pair_rule="best_worst",
                pair_prompts=50_000,
                max_completion_tokens=2048,
            ),
            sampling=sampling,
            batch=dict(
                sequences_per_update=256, sequences_per_micro_batch=16, samples_per_prompt=10
            ),
            optimizer=dict(learning_rate=1e-5),
        ),
    )
