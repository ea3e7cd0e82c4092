"""The same 20 updates on one device and on a 2x2x2 mesh, through the families' own losses."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from rljax.config.load import complete
from rljax.config.model import resolve_model
from rljax.config.validate import validate
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import load_tokenizer
from rljax.models.network import Network
from rljax.parallel.rules import put_rows
from rljax.rewards.pool import Scorer
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.rollouts import sample_texts
from rljax.training.families.table import family_class
from rljax.training.run.context import Context
from rljax.training.run.models import Model
from rljax.training.update.logprobs import model_rows
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.rows import completion_rows
from rljax.training.update.state import create_state, state_shardings
from tests.training.steps import take_step

STEPS = 20
MODEL = dict(layers=2, width=16, heads=2, kv_heads=2, mlp_width=32)
RECORDS = [
    {"id": i, "prompt": f"{i}+{i}=", "demonstration": f"{2 * i}"[: 1 + i % 3], "reference": None}
    for i in range(40)
]
OPTIMIZER = dict(learning_rate=3e-3, warmup_updates=4, schedule="cosine", weight_decay=0.1)
STAGES = {
    "sft": dict(
        batch=dict(sequences_per_update=8, sequences_per_micro_batch=4),
        data=dict(row_tokens=16),
        optimizer=OPTIMIZER,
    ),
    "grpo": dict(
        batch=dict(
            prompts_per_step=8,
            samples_per_prompt=2,
            sequences_per_update=8,
            sequences_per_micro_batch=4,
        ),
        # No top_p: a token whose mass ends within rounding of p may be kept on one mesh only.
        sampling=dict(max_new_tokens=6, temperature=0.8),
        optimizer=OPTIMIZER,
    ),
}
# With a frozen reference of other parameters, which the loss runs beside the policy.
STAGES["asft"] = {**STAGES["sft"], "objective": dict(anchor_weight=1.0)}


def stage_and_context(method, mesh):
    section = dict(method=method, steps=STEPS, **STAGES[method])
    config = complete(
        ConfigDict(
            dict(
                stages=("stage",),
                model=MODEL,
                stage=section,
                data=dict(tasks=(dict(name="chain_sum"),), max_prompt_tokens=8),
            )
        )
    )
    (stage,) = validate(config)
    tokenizer = load_tokenizer("byte", ())
    network = Network.create(resolve_model(config.model, tokenizer.vocab_size))
    text_format, scorer = TextFormat(tokenizer), Scorer(config.scoring.rewards, workers=0)
    context = Context(
        config, Path(), (stage,), mesh, network, text_format, RECORDS, RECORDS, scorer
    )
    return stage, context


def start(method, mesh):
    """The family and its first state on this mesh; the reference policy is that state's."""
    stage, context = stage_and_context(method, mesh)
    optimizer = build_optimizer(stage)
    shardings = state_shardings(context.network, optimizer, mesh)
    key = purpose_key(0, Purpose.PARAMETERS)
    state = create_state(context.network.init(key, mesh), optimizer, shardings)
    reference = context.network.init(key, mesh)
    other = context.network.init(purpose_key(1, Purpose.PARAMETERS), mesh)
    models = {"reference": Model("reference", context.network, "model", False, other)}
    context = dataclasses.replace(context, models=models)
    family = family_class(stage)(context, stage, reference, 0)
    return family, state, family.make_update(optimizer, None)


def grpo_batches(family, state):
    """Five updates' rows: real samples, made-up advantages of both signs."""
    rng = np.random.default_rng(0)
    rollouts = family.source.rollouts
    batches, weights = [], rollouts.sampler.load(state.params)
    for index in range(5):
        records = RECORDS[8 * index : 8 * index + 8]
        samples = sample_texts(
            family.context, rollouts.sampler, weights, records, key=rollouts.key, step=index
        )

        def repeat(x):
            return np.repeat(x, 2, axis=0)

        rows = completion_rows(
            repeat(samples.prompts),
            repeat(samples.prompt_mask),
            samples.flat("tokens"),
            samples.flat("mask"),
        )
        rows["behavior_logprobs"] = samples.flat("logprobs")
        placed = put_rows(model_rows(rows), family.context.mesh)
        rows["old_logprobs"] = np.asarray(family.learner.logprobs(state.params, placed))
        rows["ref_logprobs"] = rows["old_logprobs"]
        rows["advantages"] = rng.normal(0.5, 1.0, (16, 1)) * rows["mask"].astype(np.float32)
        rows["advantages"] = rows["advantages"].astype(np.float32)
        half = {name: value[::2] for name, value in rows.items()}
        batches.append(half)
    return batches


def train(method, mesh, compilations, batches=None):
    """Losses and gradient norms of 20 updates, the last parameters, the batches, the programs."""
    with jax.set_mesh(mesh), compilations() as programs:
        family, state, step = start(method, mesh)
        if method == "grpo":
            own = grpo_batches(family, state)
            used = [(batches or own)[index % 5] for index in range(STEPS)]
        else:
            own = [take_step(family, state, index + 1)[1].batches[0] for index in range(STEPS)]
            used = own
        history = []
        for batch in used:
            state, metrics = step(state, {}, put_rows(batch, mesh))
            history.append([metrics["loss"].mean(), metrics["gradient_norm"].mean()])
        return np.array(history), jax.device_get(state.params), own, programs


@pytest.mark.contract
@pytest.mark.parametrize("method", ["sft", "grpo", pytest.param("asft", marks=pytest.mark.slow)])
def test_losses_are_the_same_on_one_device_and_on_2x2x2(
    method, one_device, mesh_2x2x2, compilations
):
    one, params, batches, _ = train(method, one_device, compilations)
    many, sharded_params, own, programs = train(method, mesh_2x2x2, compilations, batches)
    # Sampled and scored on the other mesh, the batches are the same too.
    for a, b in zip(batches, own, strict=True):
        for name, value in a.items():
            np.testing.assert_allclose(value, b[name], rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(many, one, rtol=1e-4)
    assert programs.count("jit(step)") == 1
    assert np.ptp(one[:, 0]) > 0.05  # it did learn something
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4), params, sharded_params
    )
