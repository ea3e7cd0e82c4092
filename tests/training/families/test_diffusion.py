"""Families on a network that sees both ways: rows with keys, masks of each update, refusals."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.families.table import family_class
from rljax.training.run.context import build_context
from rljax.training.update.likelihood import likelihood_rows
from rljax.training.update.logprobs import FILL_STEPS, LIKELIHOOD_EPOCH, LIKELIHOOD_KEYS
from rljax.training.update.masked_likelihood import elbo
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import create_state, state_shardings
from tests.training.steps import take_step

BOTH_WAYS = (
    *("--config.model.causal=False", "--config.warmup.method=llada_sft"),
    "--config.warmup.data.canvas_tokens=6",
)
STEPS = "--config.sampler.diffusion.steps=2"
ODD_REWARD = Path(__file__).parents[1] / "odd_reward.py"


def values_of(family, made, batch):
    """Loss and gradient of one update's batch."""
    placed = put_rows(batch, made.context.mesh)
    placed = family.prepare(made.params, placed)
    (loss, metrics), gradient = jax.jit(jax.value_and_grad(family.loss_fn, has_aux=True))(
        made.params, placed
    )
    return float(loss), metrics, max(float(np.abs(x).max()) for x in jax.tree.leaves(gradient))


def family_of(made, stage=None, first_step=12):
    stage = stage or made.context.stages[-1]  # with the layout of its rows
    return family_class(stage)(made.context, stage, made.params, first_step)


def test_a_new_network_has_a_row_for_its_mask_token(pieces):
    made = pieces("grpo", *BOTH_WAYS, "--config.grpo.method=spg", STEPS)
    size, model = made.context.tokenizer.vocab_size, made.context.network.config
    assert (model.mask_token, model.vocab_size) == (size, size + 1)


@pytest.mark.contract
def test_demonstrations_fill_a_canvas_and_draw_masks_by_their_number(pieces):
    made = pieces("grpo", *BOTH_WAYS, "--config.grpo.method=spg", STEPS)
    stage = validate(made.context.config)[0]
    family = family_of(made, stage, first_step=0)
    batch = take_step(family, made.state, 1)[1].batches[0]
    assert (batch["mask"].sum(axis=1) == 6).all() and batch[LIKELIHOOD_KEYS].shape == (16, 2)
    ends = batch["tokens"][:, 1:][batch["mask"]].reshape(16, 6)
    assert (ends[:, -1] == made.context.tokenizer.eos_id).all()
    loss, metrics, gradient = values_of(family, made, batch)
    # Its weights are 1 / p on a share p of the tokens: the log of 263 tokens is 5.6.
    assert 1 < loss < 20 and gradient > 0 and metrics["nll"].mean() > 0
    keys = {
        step: take_step(family, made.state, step)[1].batches[0][LIKELIHOOD_KEYS]
        for step in (1, 2, 5)
    }
    flat = [tuple(key) for found in keys.values() for key in found]
    assert len(set(flat)) == len(flat)  # no two of 48 rows share masks


# On the policy: updates that look back to the step's start, and others.
METHODS = ("spg", "bgpo", "diffu_grpo", "wd1", "unigrpo", "coupled_grpo", "espo", "gdpo")
METHODS += ("tracerl", "tracerl_value")
# Those that mask as another one does: all of the completion, pairs of masks, the sampler's steps.
LONG = ("wd1", "coupled_grpo", "tracerl")
MARKS = {"spg": (), "unigrpo": (), **dict.fromkeys(LONG, pytest.mark.long)}


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=MARKS.get(m, pytest.mark.slow)) for m in METHODS]
)
def test_every_epoch_of_a_step_has_its_masks_and_what_is_known_under_them(pieces, method):
    words = [f"--config.grpo.method={method}", "--config.grpo.batch.epochs_per_step=2", STEPS]
    if method in ("bgpo", "tracerl", "tracerl_value"):  # a pass for each of the two steps
        words.append("--config.grpo.objective.mask_draws=2")
    # So that even a network that never saw a problem earns something.
    words.append(f"--config.scoring.rewards=({{'name': '{ODD_REWARD}:odd'}},)")
    made = pieces("grpo", *BOTH_WAYS, *words)
    family = family_of(made)
    _, found = take_step(family, made.state, 1)
    assert len(found.batches) == 4  # 32 samples, 16 an update, twice
    epochs = [set(batch[LIKELIHOOD_EPOCH].tolist()) for batch in found.batches]
    assert epochs == [{0}, {0}, {1}, {1}]
    assert np.isnan(found.batches[0]["behavior_logprobs"]).all()
    old = "old_draw_logprobs" if method == "bgpo" else "old_logprobs"
    assert (old in found.batches[0]) == (method not in ("spg", "wd1"))
    for batch in (found.batches[0], found.batches[2]):
        loss, metrics, _ = values_of(family, made, batch)
        assert np.isfinite(loss)
        if method not in ("spg", "wd1", "bgpo"):  # policy and old policy see the same masks
            assert abs(metrics["ratio_mean"].mean() - 1) < 1e-4
            if "kl" in metrics:  # exp(d) - 1 - d in float32: a few units of the last place of 1
                assert abs(metrics["kl"].mean()) < 8 * np.finfo(np.float32).eps
        if method == "bgpo":
            assert abs(metrics["bound_log_ratio"].mean()) < 1e-3
    if method == "tracerl_value":  # whose critic knows nothing yet: what is to come
        first = found.batches[0]
        assert not first["values"].any() and first["returns"].any()
        np.testing.assert_allclose(first["advantages"], first["returns"], atol=1e-6)
    if method.startswith("tracerl"):  # whose masks are those of the sampler
        steps = found.batches[0][FILL_STEPS]
        assert (steps[found.batches[0]["mask"]] >= 0).all() and set(np.unique(steps)) <= {-1, 0, 1}
    elif method not in ("spg", "wd1", "diffu_grpo"):  # whose prompts alone differ
        first, second = found.batches[0], found.batches[2]
        order = [np.argsort(batch["row"]) for batch in (first, second)]
        both = set(first["row"].tolist()) & set(second["row"].tolist())
        a, b = (
            batch[old][o][np.isin(batch["row"][o], list(both))]
            for batch, o in zip((first, second), order, strict=True)
        )
        assert (a != b).any()


def test_a_pair_s_sides_draw_alike_for_policy_and_reference(pieces):
    """At the reference every bound is its own: ln 2, and the likelihood of the chosen side."""
    words = ("--config.dpo_file.method=vrpo", "--config.dpo_file.objective.mask_draws=2", STEPS)
    made = pieces("dpo_file", *BOTH_WAYS, *words)
    family = family_of(made)
    batch = take_step(family, made.state, 1)[1].batches[0]
    assert batch[LIKELIHOOD_KEYS].shape == (8, 2, 2)
    assert len({tuple(key) for key in batch[LIKELIHOOD_KEYS].reshape(-1, 2)}) == 16
    loss, metrics, gradient = values_of(family, made, batch)
    # Every answer has four tokens: <answer>, a digit, </answer> and the end.
    nll = -float(metrics["logprob_chosen"].mean()) / 4
    assert nll > 0 and gradient > 0
    np.testing.assert_allclose(loss, np.log(2) + 0.05 * nll, rtol=1e-5)


def test_labelled_completions_have_a_bound_too(pieces):
    """KTO at its reference: a loss of 1/2, and a KL of 0 behind other prompts, under one mask."""
    words = ("--config.kto.objective.likelihood=elbo", "--config.kto.objective.mask_draws=2", STEPS)
    made = pieces("kto", *BOTH_WAYS, *words)
    family = family_of(made)
    batch = take_step(family, made.state, 1)[1].batches[0]
    keys = batch[LIKELIHOOD_KEYS]
    assert len({tuple(key) for key in keys}) == len(keys)
    assert (batch["ref_sequence_logprobs"] < 0).all() and (batch["kl_baseline"] == 0).all()
    loss, _, gradient = values_of(family, made, batch)
    assert loss == pytest.approx(0.5, abs=1e-5) and gradient > 0
    other = take_step(family, made.state, 2)[1].batches[0][LIKELIHOOD_KEYS]
    assert not {tuple(key) for key in keys} & {tuple(key) for key in other}


REFUSED = {
    "M = 0": (["grpo.objective.mask_draws=0"], "mask_draws must be a whole number >= 1"),
    "a block longer than the canvas": (
        ["grpo.objective.mask_block=7"],
        "mask_block=7 is longer than the canvas of max_new_tokens=6",
    ),
    "blocks that the sampler does not fill": (
        ["grpo.objective.mask_block=3", "sampler.diffusion.block_tokens=2"],
        "hides blocks of 3 tokens, and the sampler fills blocks of 2: mask_block must be 2",
    ),
    "blocks where the sampler has one": (
        ["grpo.objective.mask_block=3"],
        "the sampler fills blocks of 6: mask_block must be 6, or block_tokens 3",
    ),
    "passes that are not those of the steps": (
        ["grpo.method=tracerl", "grpo.objective.trajectory_shrink=2"],
        "of 6 steps on 6 tokens mask_draws must be 3, got 64",
    ),
    "a critic of other states": (
        ["grpo.method=spg", "grpo.objective.value_target=lambda_returns"]
        + ["grpo.objective.advantage=gae"],
        "a critic of masked diffusion values the steps of the sampler, which takes segmentation",
    ),
    "a critic of steps that are not scored": (
        ["grpo.method=tracerl_value", "grpo.objective.masking=bernoulli"],
        "they need likelihood='elbo' and masking='trajectory'",
    ),
    "a trajectory of demonstrations": (
        ["warmup.objective.masking=trajectory"],
        "the supervised family learns from completions without steps",
    ),
    "guidance of the sampler alone": (
        ["sampler.diffusion.cfg_scale=1.5"],
        "guided by cfg_scale=1.5, and guidance_scale=0.0 scores what it writes",
    ),
    "a canvas that is no multiple of the block": (
        ["sampler.diffusion.block_tokens=4"],
        "block_tokens must be a divisor of max_new_tokens=6",
    ),
    "a block of the sampler that is longer than the canvas": (
        ["sampler.diffusion.block_tokens=7"],
        "block_tokens must be a divisor of max_new_tokens=6.*; got 7",
    ),
    "several demonstrations in a row": (
        ["warmup.data.packed=True"],
        "reads one demonstration in a row: packed must be False",
    ),
    "a mask token that texts hold": (
        ["model.mask_token=65"],
        "mask_token=65 is the token 'A' of the tokenizer, which texts may hold",
    ),
    "a mask token without a row": (
        ["model.mask_token=400"],
        "mask_token must be below vocab_size=261, got 400",
    ),
    "an exact likelihood": (
        ["grpo.objective.likelihood=autoregressive", "grpo.method=dr_grpo"],
        "likelihood='autoregressive' serves a causal network",
    ),
    "corrections of the sampler": (
        ["grpo.objective.correction=truncated"],
        "correction='truncated' does not go with likelihood='elbo'",
    ),
    "shares that are none": (
        ["grpo.objective.mask_share_low=0.9", "grpo.objective.mask_share_high=0.5"],
        "mask_share_low=0.9 is above mask_share_high=0.5",
    ),
    "a field that its masking never reads": (
        ["grpo.objective.mask_steps=4"],
        "mask_steps=4 is never read with masking='block', but with 'schedule'",
    ),
    "shares where a count is drawn": (
        ["warmup.objective.masking=uniform_count", "warmup.objective.mask_share_high=0.5"],
        "mask_share_high=0.5 is never read with masking='uniform_count', but with 'bernoulli', ",
    ),
    "a bound of hidden tokens alone": (
        ["warmup.objective.plain_logprobs=True"],
        "the supervised family adds up a bound: it must be False",
    ),
    "a causal network": (
        ["model.causal=True", "warmup.method=sft", "warmup.data.canvas_tokens=None"],
        "likelihood='elbo' serves one that sees both ways.*config.model.convert",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_anything_compiles(pieces, case):
    words, message = REFUSED[case]
    given = [*BOTH_WAYS, "--config.grpo.method=spg", *(f"--config.{word}" for word in words)]
    with pytest.raises(ValueError, match=message):
        made = pieces("grpo", *given)
        family_of(made)


def test_surrogates_on_draws_need_a_likelihood_that_draws(tiny_config):
    words = ("grpo.method=spg", "grpo.objective.likelihood=autoregressive")
    config = tiny_config("grpo", *(f"--config.{word}" for word in words))
    with pytest.raises(ValueError, match="surrogate='sandwich' compares draws of masks"):
        validate(config)


def test_published_settings_build_a_run(tmp_path, monkeypatch, one_device_runs):
    """SPG's config on its small network, up to its first batch's shapes."""
    monkeypatch.chdir(Path(__file__).parents[3])
    config = load_config(
        "configs/rlvr/diffusion.py:spg",
        ("--config.scoring.workers=0", "--config.data.max_prompt_tokens=512"),
    )
    context = build_context(config, validate(config), tmp_path)
    with context.scorer:
        assert context.network.config.mask_token == context.tokenizer.vocab_size


SMALL = ("--config.model.layers=1", "--config.model.width=16", "--config.model.heads=2") + (
    "--config.model.kv_heads=1",
    "--config.evaluation.prompts_per_batch=4",
)


def test_held_out_demonstrations_have_a_bound(tmp_path, one_device_runs):
    """The same at every call, on the masks that the estimator draws in step 0."""
    config = load_config(
        "configs/quickstart_diffusion.py",
        ("--config.data.train_size=64", "--config.data.heldout_size=6", *SMALL),
    )
    stages = validate(config)
    context = build_context(config, stages, tmp_path)
    with context.scorer, jax.set_mesh(context.mesh):
        family = family_class(stages[0])(context, context.stages[0], None, 0)
        params = context.network.init(jax.random.key(0), context.mesh)
        assert len(family.bound.examples) == 6
        assert {sum(example.learned) for example in family.bound.examples} == {8}
        found = family.bound(params)["heldout_bound"]
        assert found == family.bound(params)["heldout_bound"]
        # The same by one call of the estimator: 16 draws, the masks of step 0.
        rows = family.rows_of(family.bound.examples)
        rows |= likelihood_rows(config.seed, 0, np.arange(6), np.zeros(6, int))
        key = jax.random.wrap_key_data(rows[LIKELIHOOD_KEYS])
        fields = dict(masking="uniform_count", mask_draws=16)
        shares = elbo(context.network, params, rows, TokenFilter(), key=key, **fields).logprobs
        mean = float(np.asarray(shares)[rows["mask"]].mean())
        np.testing.assert_allclose(found, mean, rtol=1e-5)


# A published shape but for its sizes, and a step of two completions.
TINY_SHAPE = (
    *("layers=1", "width=16", "heads=2", "kv_heads=2", "head_dim=8", "mlp_width=16"),
    *("dtype=float32", "param_dtype=float32", "vocab_size=300", "mask_token=299"),
)


@pytest.mark.parametrize(
    "file, stage",
    [
        ("llada_8b_v5e.py:spg", "rl"),
        pytest.param("llada_8b_v5e.py:bgpo", "rl", marks=pytest.mark.slow),
        pytest.param("llada_8b_v5e.py:vrpo", "preference", marks=pytest.mark.slow),
        pytest.param("dream_7b_v5e.py", "rl", marks=pytest.mark.slow),
    ],
)
def test_published_shapes_train_at_a_tiny_size(file, stage, tmp_path, monkeypatch, one_device_runs):
    """With the papers' settings; few and short completions of a small vocabulary."""
    monkeypatch.chdir(Path(__file__).parents[3])
    words = [f"model.{word}" for word in TINY_SHAPE] + ["mesh.tensor=1", "scoring.workers=0"]
    words += ["evaluation.max_new_tokens=32", "sampler.diffusion.steps=2"]
    words += [f"{stage}.batch.sequences_per_micro_batch=2"]
    if stage == "rl":
        words += ["rl.batch.prompts_per_step=2", "rl.batch.samples_per_prompt=2"]
        words += ["rl.sampling.max_new_tokens=32", "data.max_prompt_tokens=512"]
    else:
        words += [f"{stage}.batch.sequences_per_update=4"]
    if ":bgpo" in file:
        words += ["rl.objective.mask_draws=2"]
    config = load_config(f"configs/pods/{file}", tuple(f"--config.{word}" for word in words))
    context = build_context(config, validate(config), tmp_path)
    with context.scorer, jax.set_mesh(context.mesh):
        (stage,) = context.stages
        params = context.network.init(jax.random.key(0), context.mesh)
        kind, optimizer = family_class(stage), build_optimizer(stage)
        carried = kind.carried(context, stage)
        shardings = state_shardings(context.network, optimizer, context.mesh, carried)
        state = create_state(jax.tree.map(jnp.copy, params), optimizer, shardings, carried)
        family = kind(context, stage, params, 0)
        batch = take_step(family, state, 1)[1].batches[0]
        if "advantages" in batch:  # a fresh network solves nothing: as if one of two were right
            signs = np.where(np.arange(len(batch["mask"])) % 2, -1.0, 1.0)
            batch["advantages"] = (batch["mask"] * signs[:, None]).astype(np.float32)
        made = SimpleNamespace(context=context, params=params)
        loss, _, gradient = values_of(family, made, batch)
        assert np.isfinite(loss) and gradient > 0
