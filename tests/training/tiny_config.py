"""Runs of seconds for the tests: one-digit sums from a file, a model of a few thousand weights.

`:grpo`, `:dpo`, `:dpo_file`, `:tr_dpo`, `:kto`, `:jepo`, `:trice`, `:gkd`, `:rft` and `:asft` warm
up on demonstrations first; `:dpo_twice` is `:dpo` with `:dpo_file` after it; `:reinforce` starts
from nothing; `:rlhf` is a graph of three stages, and so is `:online`, which like `:online_kto`
learns in two rounds from what it sampled itself.
The files lie next to the workdir, in the folder that `write_data` filled.
"""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

DATA = "RLJAX_TEST_DATA"


def write_data(folder: Path) -> None:
    """problems.jsonl with demonstrations, and the same as heldout.jsonl."""
    sums = [(a, b) for a in range(10) for b in range(10 - a)]
    lines = [
        {
            "prompt": f"{a}+{b}=",
            "reference": str(a + b),
            "completion": f"<answer>{a + b}</answer>",
            "chosen": f"<answer>{a + b}</answer>",
            "rejected": "<answer>no</answer>",
        }
        for a, b in sums
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "problems.jsonl").write_text(text)
    (folder / "heldout.jsonl").write_text("".join(text.splitlines(keepends=True)[::7]))


def reward_model(folder: str) -> dict[str, Any]:
    """The stage of a reward model."""
    return dict(
        method="bradley_terry",
        steps=4,
        network=dict(head="reward"),
        data=dict(path=f"{folder}/problems.jsonl", max_completion_tokens=8),
        batch=dict(sequences_per_update=16, sequences_per_micro_batch=8),
        optimizer=dict(learning_rate=1e-2),
    )


def pairs_of_a_file(folder: str) -> dict[str, Any]:
    """The stage of DPO on the pairs of a file."""
    return dict(
        method="dpo",
        steps=5,
        data=dict(path=f"{folder}/problems.jsonl", max_completion_tokens=8),
        batch=dict(sequences_per_update=16),
    )


def get_config(arg: str = "grpo") -> ConfigDict:
    """The config of a variant; see above."""
    folder = os.environ[DATA]
    c = ConfigDict()
    c.name = "tiny"
    c.model = dict(layers=1, width=16, heads=2, kv_heads=1)
    c.tokenizer = dict(special_tokens=("<answer>", "</answer>"))
    c.data = dict(
        kind="jsonl",
        path=f"{folder}/problems.jsonl",
        heldout_path=f"{folder}/heldout.jsonl",
        max_prompt_tokens=6,
        heldout_size=8,
    )
    c.scoring = dict(rewards=({"name": "exact_match", "options": {"tag": "answer"}},), workers=0)
    c.evaluation = dict(samples_per_prompt=2, prompts_per_batch=8, max_new_tokens=6, every_steps=3)
    c.checkpoint = dict(every_steps=2, keep=1)
    c.reporting = dict(writers=("jsonl",))
    warmup = dict(
        method="sft",
        steps=12,
        data=dict(source="jsonl", path=f"{folder}/problems.jsonl", row_tokens=24),
        batch=dict(sequences_per_update=16),
        optimizer=dict(learning_rate=3e-2),
    )
    rollouts = dict(
        steps=5,
        sampling=dict(max_new_tokens=6),
        batch=dict(prompts_per_step=8, samples_per_prompt=4),
        optimizer=dict(learning_rate=1e-3),
    )
    sampled_pairs = dict(
        method="dpo",
        steps=5,
        data=dict(source="sampled_pairs", pair_prompts=40, max_completion_tokens=8),
        sampling=dict(max_new_tokens=6),
        batch=dict(sequences_per_update=16, samples_per_prompt=4),
        optimizer=dict(learning_rate=1e-3),
    )
    evidence = dict(rollouts, method="jepo", data=dict(max_answer_tokens=4))
    groups = dict(rollouts, method="grpo")
    groups["batch"] = dict(groups["batch"], sequences_per_update=16)
    c.stages = ("warmup", arg)
    if arg != "reinforce":
        c.warmup = warmup
    if arg == "grpo":
        c.grpo = groups
    elif arg == "reinforce":
        c.stages = ("reinforce",)
        c.reinforce = dict(rollouts, method="reinforce")
        reward = f"{Path(__file__).parent / 'odd_reward.py'}:odd"
        c.scoring.rewards = ({"name": reward},)
    elif arg in ("dpo", "dpo_twice"):
        c.dpo = sampled_pairs
        if arg == "dpo_twice":
            c.stages, c.dpo_file = ("warmup", "dpo", "dpo_file"), pairs_of_a_file(folder)
            # Where it starts from itself, its first rewards are rounding alone.
            c.dpo_file.models = dict(reference=dict(start_from="warmup"))
    elif arg == "online":
        # Two rounds of pairs that a reward model ranks.
        c.stages = ("warmup", "rm", "online")
        c.rm = reward_model(folder)
        c.online = dict(
            method="dpo",
            steps=4,
            start_from="warmup",
            models=dict(reward=dict(start_from="rm")),
            data=dict(
                source="sampled_pairs",
                rounds=2,
                pair_rule="best_worst",
                pair_prompts=24,
                max_completion_tokens=8,
            ),
            sampling=dict(max_new_tokens=6),
            batch=dict(sequences_per_update=16, samples_per_prompt=4),
            optimizer=dict(learning_rate=1e-2),
        )
    elif arg == "online_kto":
        c.online_kto = dict(
            method="kto",
            steps=4,
            data=dict(source="sampled_labels", rounds=2, pair_prompts=24, max_completion_tokens=8),
            sampling=dict(max_new_tokens=6),
            batch=dict(sequences_per_update=16, samples_per_prompt=4),
            optimizer=dict(learning_rate=1e-2),
        )
    elif arg == "dpo_file":
        c.dpo_file = pairs_of_a_file(folder)
    elif arg == "tr_dpo":
        c.tr_dpo = dict(
            method="tr_dpo",
            steps=5,
            objective=dict(reference_update_steps=2),
            data=dict(path=f"{folder}/problems.jsonl", max_completion_tokens=8),
            batch=dict(sequences_per_update=16),
            optimizer=dict(learning_rate=1e-2),
        )
    elif arg == "kto":
        c.kto = dict(
            method="kto",
            steps=3,
            data=dict(path=f"{folder}/problems.jsonl", max_completion_tokens=8),
            batch=dict(sequences_per_update=16),
            optimizer=dict(learning_rate=1e-3),
        )
    elif arg == "rlhf":
        # Both later stages start from the warm-up; the last takes its reward and its critic from
        # the one between.
        c.stages = ("warmup", "rm", "ppo")
        c.rm = reward_model(folder)
        c.ppo = dict(
            rollouts,
            method="ppo",
            start_from="warmup",
            models=dict(reward=dict(start_from="rm"), value=dict(start_from="rm")),
        )
        c.ppo.steps = 3
        c.ppo.batch.sequences_per_update = 16
    elif arg == "gkd":
        c.gkd = dict(
            rollouts,
            method="gkd",
            start_from="model",
            models=dict(teacher=dict(start_from="warmup")),
            batch=dict(prompts_per_step=16, samples_per_prompt=1),
        )
    elif arg == "rft":
        c.rft = dict(
            method="sft",
            steps=3,
            data=dict(
                source="sampled", sampled_prompts=24, keep="best", keep_most=2, row_tokens=24
            ),
            batch=dict(sequences_per_update=8, samples_per_prompt=4),
            sampling=dict(max_new_tokens=6),
        )
    elif arg == "asft":
        c.asft = dict(warmup, method="asft", steps=3)
    elif arg == "trice":
        batch = dict(prompts_per_step=8, samples_per_prompt=1)
        c.trice = dict(rollouts, method="trice", batch=batch, data=dict(max_context_tokens=8))
    elif arg == "jepo":
        c.jepo = evidence
    elif arg == "many":
        c.stages = ("warmup", "grpo", "dpo", "dpo_file", "jepo", "ppo")
        after = dict(start_from="warmup")
        c.dpo, c.jepo, c.grpo = (sampled_pairs | after, evidence | after, groups | after)
        c.ppo = groups | after | dict(method="ppo")
        c.dpo_file = pairs_of_a_file(folder)
        c.dpo_file.models = dict(reference=dict(start_from="warmup"))
    else:
        raise ValueError(f"Unknown variant {arg!r}.")
    return c
