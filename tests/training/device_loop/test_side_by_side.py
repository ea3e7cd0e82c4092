"""Runs that are computed side by side are the runs that each would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.parallel.mesh import make_mesh
from rljax.tasks.symbols.alphabet import EOS_ID, VOCAB_SIZE, ZERO_ID
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.runs import SideBySide, copied

DIGITS = range(ZERO_ID, ZERO_ID + 5)
OTHERS = tuple(token for token in range(VOCAB_SIZE) if token not in (EOS_ID, *DIGITS))
CLIP, RATE = "objective.clip_high", "optimizer.learning_rate"


def config_of(method="dr_grpo", **changes):
    return complete(
        {
            "name": "side",
            "stages": ("rl",),
            "model": {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1},
            "tokenizer": {"path": "symbols"},
            "data": {
                "kind": "symbols",
                "tasks": ({"name": "sort", "min_length": 1, "max_length": 2, "max_digit": 4},),
                "train_size": 26,
                "heldout_size": 4,
                "max_prompt_tokens": 3,
            },
            "scoring": {"rewards": ({"name": "symbols"},), "workers": 0},
            "evaluation": {"samples_per_prompt": 0, "max_new_tokens": 3, "prompts_per_batch": 8},
            "rl": {
                "method": method,
                "steps": 4,
                "batch": {
                    "prompts_per_step": 16,
                    "samples_per_prompt": 8,
                    "sequences_per_update": 32,
                },
                "sampling": {"max_new_tokens": 3, "forbidden_tokens": OTHERS},
                "optimizer": {"learning_rate": 3e-2},
                **changes,
            },
        }
    )


@pytest.fixture(scope="module")
def made():
    config = config_of()
    mesh = make_mesh(config.mesh.to_dict(), devices=jax.devices()[:1])
    program = DeviceProgram.create(config, mesh)
    return program, program.network.init(jax.random.key(0), mesh)


def run(made, seeds, values=None, devices=1, chunks=((1, 4),)):
    program, params = made
    runs = SideBySide(program, params, seeds, values, devices=jax.devices()[:devices])
    states, found = runs.start(), []
    for first, last in chunks:
        states, chunk = runs.advance(states, first, last)
        found.append(chunk)
    train = {
        name: np.concatenate([chunk.train[name] for chunk in found], axis=1)
        for name in found[0].train
    }
    return train, jax.device_get(states.params), runs.sharding


def assert_same(one, other, rows=slice(None)):
    for name in one:
        np.testing.assert_allclose(one[name], other[name][rows], rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.fixture(scope="module")
def together(made):
    return run(made, [3, 4])


def test_each_seed_is_what_it_is_alone(made, together):
    train, params, _ = together
    alone, alone_params, _ = run(made, [4])
    assert_same(alone, train, slice(1, 2))
    assert train["reward"].sum() > 0
    assert (train["reward"][0] != train["reward"][1]).any()  # seeds differ
    for own, both in zip(jax.tree.leaves(alone_params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(own[0], both[1], rtol=1e-3, atol=1e-4)


def test_numbers_differ_from_run_to_run(made, together):
    """The first point of the sweep is the config itself, the second another clip and rate."""
    values = {CLIP: [0.2, 0.01], RATE: [3e-2, 1e-2]}
    train, _, _ = run(made, [3, 3], values)
    assert_same({k: v[:1] for k, v in together[0].items()}, train, slice(0, 1))
    assert abs(train["loss"][1] - train["loss"][0]).max() > 1e-4
    assert train["clip_share_high"][1].sum() > train["clip_share_high"][0].sum()


@pytest.mark.slow
def test_runs_are_spread_over_devices(made, together):
    train, _, sharding = run(made, [3, 4], devices=8)
    assert sharding.mesh.size == 2  # as many as divide the runs
    assert_same(together[0], train)


@pytest.mark.slow
def test_chunks_do_not_change_a_run(made, together):
    train, _, _ = run(made, [3, 4], chunks=((1, 1), (2, 4)))
    assert_same(together[0], train)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": {"kind": "reasoning_gym"}}, "a verifier in JAX, kind='symbols'"),
        ({"model": {"lora": {"rank": 2}}}, "rank=2: the device loop trains whole models"),
        ({"rl": {"network": {"head": "reward"}}}, "trains a network with the head"),
        ({"sampler": {"diffusion": {"steps": 4}}}, "diffusion"),
        *(
            ({"scoring": {"rewards": rewards}}, "takes the reward 'symbols' alone")
            for rewards in (
                ({"name": "symbols", "weight": 2.0},),
                ({"name": "symbols", "options": {"binary": True}},),
                ({"name": "symbols"}, {"name": "format"}),
                ({"name": "exact_match"},),
            )
        ),
    ],
)
def test_what_needs_the_host_is_refused(change, message):
    config = config_of()
    with config.unlocked():
        for section, values in change.items():
            config[section].update(values)
    mesh = make_mesh(config.mesh.to_dict(), devices=jax.devices()[:1])
    with pytest.raises(ValueError, match=message):
        DeviceProgram.create(config, mesh)


def test_a_copy_is_bit_for_bit_and_others_stay():
    key = jax.random.key(0)
    states = {
        "params": jax.random.normal(key, (4, 3, 2)).at[1, 0, 0].set(jnp.nan),
        "moments": jax.random.normal(key, (4, 5)).astype(jnp.bfloat16),
        "count": jnp.array([7, 8, 9, 10], jnp.int32),
    }
    found = copied(states, np.array([0, 1, 0, 1], np.int32))
    for name, leaf in states.items():
        bits = np.asarray(leaf)
        assert np.asarray(found[name]).tobytes() == bits[[0, 1, 0, 1]].tobytes(), name
