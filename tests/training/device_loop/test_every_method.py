"""Every method can be traced as a whole program.

The slow set has one method for every part that works outside the loss: what samples, keeps, shapes
and corrects. Parts of the loss are traced for every method by test_enumeration.py; the methods that
differ in them alone are in the long set.
"""

import functools

import jax
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.parallel.mesh import make_mesh
from rljax.registry import METHODS
from rljax.reporting.glossary import METRICS
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.runs import SideBySide, _advance
from rljax.training.device_loop.step import Plan
from rljax.training.learner.batches import step_order

# What the device loop refuses by name: trees, windows, hints, search, another model (a teacher, a
# guide).
ON_HOST = ("spo_chain", "spo_tree", "vineppo", "t_ppo")
ON_HOST += (
    "opd",
    *("ppo_plus_plus", "aggrevated", "lols", "d2lols"),
    "guide_grpo",
    "scaf_grpo",
    "speed",
    "gvm_raft_plus_plus",
    "gvm_grpo",
    "deepsearch",
)
# It reads what launch/select.py writes beside problems; test_curriculum.py has it in both loops.
ON_HOST += ("gain_rl",)
# Those that read constraints, or rewards one by one, too.
ON_HOST += ("crpg", "crraft", "grpo_components", "rloo_hypervolume", "mu_ppo", "xi_ppo")
ON_HOST += ("grpo_gradient_weighted", "recap")
# Those of several players: it plays no episodes.
ON_HOST += ("spiral", "hierarchical_grpo", "waltzrl")
# Rows of masked diffusion, whose likelihood draws masks, are refused too.
NAMES = [
    name
    for name, row in METHODS.items()
    if row.family == "policy_gradient" and name not in ON_HOST and "likelihood" not in row.parts
]

# Parts of a method that are more than a term of its loss.
OUTSIDE = ("allocation", "correction", "curriculum", "demonstrations", "denominator")
OUTSIDE += ("discouraged_scale", "group_filter", "kl_placement", "likelihood_weight", "ratio")
OUTSIDE += ("rejection", "reward_shaping", "sampling_temperature", "segmentation", "selection")
OUTSIDE += ("value_target",)


def outside(name):
    """The method's parts among `OUTSIDE`, as (what it chooses, its choice)."""
    return {(part, choice) for part, choice in METHODS[name].parts.items() if part in OUTSIDE}


def representatives():
    """Methods that together have every such part: always the one with the most that are left."""
    left, chosen = set().union(*map(outside, NAMES)), set()
    while left:
        name = max(NAMES, key=lambda name: len(outside(name) & left))
        chosen.add(name)
        left -= outside(name)
    return chosen


SLOW = representatives()


def traced(name, batch):
    """Shapes of everything that two steps of a method return."""
    group = 4 + (name in ("hpt", "luffy", "srft"))
    config = complete(
        {
            "stages": ("rl",),
            "model": {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1},
            "tokenizer": {"path": "symbols"},
            "data": {
                "kind": "symbols",
                "tasks": ({"name": "sort", "max_length": 3},),
                "train_size": 16,
                "heldout_size": 4,
                "max_prompt_tokens": 4,
                "source_column": "level",
            },
            "scoring": {"rewards": ({"name": "symbols"},)},
            "evaluation": {"samples_per_prompt": 0, "max_new_tokens": 4},
            "rl": {
                "method": name,
                "steps": 4,
                "batch": {
                    "prompts_per_step": 4,
                    "samples_per_prompt": 4,
                    **{field: size * group for field, size in batch.items()},
                },
                "sampling": {"max_new_tokens": 4},
            },
        }
    )
    mesh = make_mesh(config.mesh.to_dict(), devices=jax.devices()[:1])
    program = DeviceProgram.create(config, mesh)
    params = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), program.network.shapes)
    runs = SideBySide(program, params, [0, 1], devices=jax.devices()[:1])
    orders = [
        [step_order(program.stage.batch, seed=(seed, step)) for step in (1, 2)] for seed in (0, 1)
    ]
    plan = Plan(np.ones((2, 2), np.int32), np.array(orders))
    reference = params if program.stage.needs_reference else None
    advance = jax.vmap(functools.partial(_advance, program), in_axes=(None, 0, 0, 0))
    return jax.eval_shape(advance, reference, runs.run, jax.eval_shape(runs.start), plan)


SEVERAL = {"sequences_per_update": 2, "sequences_per_micro_batch": 1}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.long)
        for name in NAMES
    ],
)
def test_a_method_is_traced_whole(name):
    """With several updates a step where a ratio corrects for them; else with one."""
    several = METHODS[name].parts["ratio"] != "none"
    _, train, heldout = traced(name, SEVERAL if several else {})
    assert train["loss"].shape == (2, 2) and heldout["accuracy_greedy"].shape == (2,)
    named = {name for name in train if not name.startswith("curriculum/probability/")}
    assert not (named | set(heldout)) - set(METRICS), "metrics without a caption"
    assert not several or {"gradient_noise_scale", "ratio_max"} <= set(train)


@pytest.mark.slow
def test_one_update_of_a_whole_step():
    _, train, _ = traced("grpo", {})
    assert train["loss"].shape == (2, 2)
