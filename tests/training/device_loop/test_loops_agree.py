"""The host loop and the device loop make the same run of the same config."""

import json

import jax
import numpy as np
import pytest
from rich.console import Console

from rljax.config.decoding import decoding_of
from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.sampling.keys import Purpose, purpose_key
from rljax.tasks.symbols.alphabet import EOS_ID, VOCAB_SIZE, ZERO_ID
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.runs import SideBySide
from rljax.training.loop import run

STEPS = 3
# Whose samples are right now and then; of grpo in the first update. There a step without any signal
# has a gradient by the reference that is rounding alone, of which Adam makes a whole step.
SEEDS = {"luffy": 4, "grpo": 4}
DIGITS = range(ZERO_ID, ZERO_ID + 5)
OTHERS = tuple(token for token in range(VOCAB_SIZE) if token not in (EOS_ID, *DIGITS))

# Methods that need something of their own: running statistics, several updates, a critic, filters,
# a greedy completion, noise, a reference, curricula. Samples and held-out completions of grpo end
# at a string.
METHODS = {
    "grpo": {"sequences_per_update": 16},
    "dapo": {"sequences_per_update": 8},
    "reinforce": {},
    "ppo": {},
    "remax": {},
    "clip_cov": {"sequences_per_update": 16},
    "hapo": {},
    "disco": {},
    "lp_reg": {"sequences_per_update": 16, "sequences_per_micro_batch": 8},
    "hpt": {"sequences_per_update": 20},
    "luffy": {},
    "pcl": {"prompts_per_step": 4},
    "dump": {"prompts_per_step": 4},
    "greso": {"prompts_per_step": 4},
}
OBJECTIVES = {
    "dapo": {"overlong_length": 3, "overlong_buffer": 1},
    "pcl": {"pool_factor": 2},
    "greso": {"filter_rounds": 2},
}
# Another method of the slow set has what these need, up to terms of the loss.
LONG = ("clip_cov", "disco", "lp_reg", "hpt", "dump")
MARKS = {"grpo": pytest.mark.contract, **dict.fromkeys(LONG, pytest.mark.long)}
CURRICULUM = {
    "pcl": {"curriculum/pool_value", "curriculum/chosen_value"},
    "dump": {"curriculum/probability/1", "curriculum/probability/2"},
    "greso": {"curriculum/skipped", "curriculum/easy_retry"},
}
# Diagnostics of every method.
LOGGED = {
    *("gradient_norm", "effective_sample_size", "entropy", "groups_without_signal"),
    *("ratio_min", "ratio_q1", "ratio_q50", "ratio_q99", "ratio_max"),
    *(f"old_policy_kl_{k}{error}" for k in ("k1", "k2", "k3") for error in ("", "_error")),
    *("sampler_trainer_gap", "sampler_trainer_gap_max", "sampler_trainer_k3"),
}


def config_of(method, seed):
    return complete(
        {
            "name": "agree",
            "seed": seed,
            "stages": ("rl",),
            "model": {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1},
            "tokenizer": {"path": "symbols"},
            "data": {
                "kind": "symbols",
                "tasks": ({"name": "sort", "min_length": 1, "max_length": 2, "max_digit": 4},),
                "train_size": 8,
                "heldout_size": 4,
                "max_prompt_tokens": 3,
                "source_column": "level",
            },
            "scoring": {"rewards": ({"name": "symbols"},), "workers": 0},
            "evaluation": {
                "samples_per_prompt": 0,
                "max_new_tokens": 3,
                "prompts_per_batch": 8,
                "every_steps": STEPS,
            },
            "reporting": {"writers": ("jsonl",), "rollout_prompts": 0},
            "rl": {
                "method": method,
                "steps": STEPS,
                "batch": {"prompts_per_step": 8, "samples_per_prompt": 4, **METHODS[method]},
                # So few tokens that a random policy is right now and then.
                "sampling": {
                    "max_new_tokens": 3,
                    "forbidden_tokens": OTHERS,
                    "stop_strings": ("1", "22") if method == "grpo" else (),
                },
                "optimizer": {"learning_rate": 3e-2},
                "objective": OBJECTIVES.get(method, {}),
            },
        }
    )


def test_held_out_problems_are_decoded_as_the_stage_samples():
    """Both loops judge without the forbidden tokens, and stop at the stage's strings."""
    config = config_of("grpo", 0)
    (stage,) = validate(config)
    decoding = decoding_of(config.evaluation, (stage,), 0)
    assert decoding.stop_strings == ("1", "22")
    assert decoding.token_filter.forbidden_tokens == OTHERS


def host_rows(config, workdir):
    run(config, workdir, Console(quiet=True))
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"], rows[-1]


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in METHODS]
)
def test_both_loops_give_the_same_run(method, tmp_path, one_device_runs):
    """Samples, rewards, losses and held-out accuracy, step by step, of a run beside another."""
    seed = SEEDS.get(method, 3)
    train, heldout = host_rows(config_of(method, seed), tmp_path / "host")
    config = config_of(method, 0)
    mesh = make_mesh(config.mesh.to_dict(), devices=jax.devices()[:1])
    program = DeviceProgram.create(config, mesh)
    params = program.network.init(purpose_key(seed, Purpose.PARAMETERS), mesh)
    runs = SideBySide(program, params, [seed + 1, seed], devices=jax.devices()[:1])
    chunk = runs.advance(runs.start(), 1, STEPS)[1]
    for step, row in enumerate(train):
        assert set(row) & set(chunk.train) >= LOGGED
        assert ("explained_variance" in row) == (method in ("ppo", "pcl"))
        assert CURRICULUM.get(method, set()) <= set(row) & set(chunk.train)
        for name in set(row) & set(chunk.train):
            ours = float(chunk.train[name][1, step])
            theirs = row[name] if isinstance(row[name], float | int) else np.nan
            message = f"{name} of step {step + 1}"
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5, err_msg=message)
    for name in ("accuracy_greedy", "completion_tokens"):
        assert float(chunk.heldout[name][1]) == pytest.approx(heldout[name])
    assert sum(row["reward"] for row in train) > 0  # they agreed on something
