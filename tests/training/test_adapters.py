"""Training adapters on a frozen base: whole runs, exact resumption, one copy of the base."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp
from rich.console import Console

from rljax.config.validate import validate
from rljax.models.config import LoRAConfig
from rljax.models.frozen_base import quantise_base
from rljax.models.lora import (
    adapters_are_zero,
    combine,
    drop_adapters,
    flatten,
    has_adapters,
    merge_adapters,
    split_frozen,
    without_adapters,
)
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config
from rljax.objectives.metrics import SumCount
from rljax.parallel.rules import put_rows
from rljax.reporting.files import read_rows
from rljax.training import loop, stage_run, step
from rljax.training.families.first_step import lora_sb_init
from rljax.training.run import context as contexts
from rljax.training.run.checkpoints import read_note
from rljax.training.run.stages import Stages
from rljax.training.run.start import Source, base_note, check_start, load_start
from rljax.training.update.state import create_state, state_shardings
from rljax.training.update.train_step import jit_train_step

FIXTURE = Path(__file__).parents[1] / "models/pretrained/fixtures/qwen3"

LORA = ("--config.model.lora.rank=2", "--config.model.width=24")
SHORT = ("--config.warmup.steps=4", "--config.dpo_file.steps=3")


def stored(workdir, stage, step):
    return ocp.load(workdir / "checkpoints" / stage / str(step), checkpointable_name="state")


def pointers(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.unsafe_buffer_pointer() for path, leaf in leaves}


# --- the update ----------------------------------------------------------------------------------


def squares(network):
    """A loss with an expert-free model: mean square of the logits of a fixed row."""

    def loss_fn(params, batch):
        model = network.bind(params)
        tokens = batch["tokens"]
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden = model(tokens, positions, jnp.ones_like(tokens)).hidden
        loss = jnp.mean(jnp.square(model.logits(hidden) - 1.0)) * len(tokens) / 8
        return loss, {"rows": SumCount(jnp.ones(()), jnp.ones(()))}

    return loss_fn


BATCH = {"tokens": jnp.arange(32).reshape(8, 4) % 13}


@pytest.mark.parametrize("base", [pytest.param("full", marks=pytest.mark.slow), "int8"])
def test_only_adapters_have_moments_and_the_base_stays_where_it_is(
    base, tiny_network, one_device, compilations
):
    network = tiny_network(lora=LoRAConfig(rank=2, alpha=4, base=base))
    optimizer = optax.adam(1e-2)
    state, frozen = split_frozen(network.init(jax.random.key(0), one_device))
    frozen = quantise_base(network, frozen, one_device)
    before = jax.tree.map(np.asarray, frozen)
    state = create_state(state, optimizer, state_shardings(network, optimizer, one_device))
    sizes = {leaf.size for leaf in jax.tree.leaves(state)}
    assert len(jax.tree.leaves(state.params)) == 14 and max(sizes) < 200
    assert len(jax.tree.leaves(state.optimizer_state)) == 2 * 14 + 1
    step = jit_train_step(network, squares(network), optimizer, one_device, micro_batches=2)
    losses = []
    with compilations() as programs:
        for _ in range(5):
            old, (state, metrics) = state, step(state, frozen, BATCH)
            losses.append(float(metrics["loss"].mean()))
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert losses[-1] < losses[0] - 0.01 and programs.count("jit(step)") == 1
    jax.tree.map(np.testing.assert_array_equal, frozen, before)


def test_what_is_frozen_is_an_argument_of_the_program(tiny_network, one_device):
    """Not a constant in it: its bytes are arguments, and none of them is donated."""
    network = tiny_network(lora=LoRAConfig(rank=2, alpha=4))
    optimizer = optax.adam(1e-2)
    state, frozen = split_frozen(network.init(jax.random.key(0), one_device))
    state = create_state(state, optimizer, state_shardings(network, optimizer, one_device))
    step = jit_train_step(network, squares(network), optimizer, one_device, micro_batches=1)
    memory = step.lower(state, frozen, BATCH).compile().memory_analysis()

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    assert memory.argument_size_in_bytes >= size(frozen) + size(state)
    assert memory.alias_size_in_bytes <= size(state)


def test_the_balancing_bias_moves_by_counts_and_not_by_the_optimizer():
    """Against equation (algorithm 1 of arXiv:2408.15664) by hand; not at all in a bad update."""
    from rljax.training.update.state import TrainState, first_moments
    from rljax.training.update.train_step import make_train_step

    params = {"mlp": {"router_bias": jnp.array([[0.5, 0.0], [0.0, 0.0]])}, "w": jnp.ones(2)}
    counts = jnp.array([[3.0, 1.0], [2.0, 2.0]])

    def loss_fn(params, batch):
        loss = jnp.sum(params["w"] * batch["x"]) + jnp.sum(params["mlp"]["router_bias"])
        share = batch["x"].shape[0] / 2
        return loss, {"expert_counts": SumCount(counts * share, jnp.ones(()))}

    optimizer = optax.adamw(0.1, weight_decay=0.5)
    zero = jnp.zeros((), jnp.int32)
    moments = first_moments(optimizer, params)
    assert len(jax.tree.leaves(moments)) == 3  # of w, and a count
    state = TrainState(params, moments, zero, zero, zero)
    for parts in (1, 2):
        step = make_train_step(loss_fn, optimizer, micro_batches=parts, router_bias_rate=0.01)
        moved, metrics = step(state, {}, {"x": jnp.ones((2, 1))})
        bias = moved.params["mlp"]["router_bias"]
        np.testing.assert_allclose(bias, [[0.49, 0.01], [0.0, 0.0]], atol=1e-7)
        assert "expert_counts" not in metrics and jnp.all(moved.params["w"] < 1)
    same, _ = step(state, {}, {"x": jnp.full((2, 1), jnp.nan)})
    np.testing.assert_array_equal(same.params["mlp"]["router_bias"], params["mlp"]["router_bias"])


# --- LoRA-SB -------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.slow
def test_with_every_direction_the_first_step_is_that_of_full_fine_tuning(
    parts, tiny_network, one_device
):
    """Rank 16 is all that a matrix with a side of 16 has: W - lr sign(g), g the full gradient."""
    modules = ("out", "up")
    lora = LoRAConfig(rank=16, alpha=8, kind="lora_sb", modules=modules)
    network = tiny_network(lora=lora)
    params = network.init(jax.random.key(0), one_device)
    bare, base = without_adapters(network), jax.tree.map(jnp.copy, drop_adapters(params))
    gradient = jax.jit(jax.grad(lambda params: squares(bare)(params, BATCH)[0]))(base)
    adapters = lora_sb_init(
        network, squares(network), params, BATCH, step_size=1e-2, micro_batches=parts
    )
    _, merged = merge_adapters(network, combine(drop_adapters(params), adapters))
    for path, leaf in flatten(merged).items():
        before, slope = flatten(base)[path], flatten(gradient)[path]
        if path[-1] != "kernel" or path[-2] not in modules:
            np.testing.assert_array_equal(leaf, before)
            continue
        clear = np.abs(slope) > 1e-7  # the sign of rounding noise is nobody's
        assert clear.mean() > 0.9
        np.testing.assert_allclose(
            np.where(clear, leaf, 0), np.where(clear, before - 1e-2 * np.sign(slope), 0), atol=2e-4
        )


@pytest.mark.parametrize("factor, wrong", [(0.0, "is zero"), (jnp.nan, "is not finite")])
def test_a_first_gradient_that_says_nothing_is_refused(factor, wrong, tiny_network, one_device):
    """In one layer of one matrix is enough: it would be confined to arbitrary directions."""
    lora = LoRAConfig(rank=2, alpha=4, kind="lora_sb", modules=("query",))
    network = tiny_network(lora=lora, layers=2)
    params = network.init(jax.random.key(0), one_device)

    def loss_fn(params, batch):
        kernel = params["blocks"]["attention"]["query"]["kernel"]
        return jnp.sum(kernel[0]) + factor * jnp.sum(kernel[1]), {}

    message = rf"that of blocks.attention.query {wrong}.*\(config.model.lora.kind\)"
    with pytest.raises(ValueError, match=message):
        lora_sb_init(network, loss_fn, params, BATCH, step_size=1e-2)


# --- whole runs ----------------------------------------------------------------------------------


class Stopped(BaseException):
    """As if the process had been killed."""


def run(config, workdir):
    return loop.run(config, workdir, Console(file=io.StringIO()))


def run_killed(config, workdir, updates, monkeypatch):
    """What the last process says; process n is killed at its update number updates[n], from 1."""
    for count in updates:
        batches = iter(range(1, count))

        def stop(*arguments, batches=batches, original=step.put_rows):
            if next(batches, None) is None:
                raise Stopped
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(step, "put_rows", stop)
            with pytest.raises(Stopped):
                run(config, workdir)
    text = io.StringIO()
    loop.run(config, workdir, Console(file=text, width=200))
    return text.getvalue()


def assert_same_run(workdir, expected):
    """The state after the last step of dpo_file, and all metrics."""
    ours, theirs = (stored(folder, "dpo_file", 3) for folder in (workdir, expected))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    ours, theirs = (list(read_rows(folder / "metrics.jsonl")) for folder in (workdir, expected))
    assert ours == theirs


@pytest.fixture
def watched(monkeypatch):
    """What stages were given as a reference, and how often the base was on the device.

    The latter is looked at where the held-out problems would be, which saves their programs.
    """
    seen = {"references": [], "bases": []}
    frozen = Stages.frozen

    def watch_reference(self, model):
        found = frozen(self, model)
        assert model.role == "reference"
        assert pointers(self.context.frozen).items() <= pointers(found).items()
        seen["references"].append(has_adapters(found))
        return found

    def watch_heldout(self, *rest):
        shape = self.context.frozen["embedding"].shape  # no other test has one of this shape
        alive = [leaf for leaf in jax.live_arrays() if leaf.shape == shape]
        # Distinct buffers: jax keeps views of an array that was read.
        seen["bases"].append(len({leaf.unsafe_buffer_pointer() for leaf in alive}))
        return 0.0

    monkeypatch.setattr(Stages, "frozen", watch_reference)
    monkeypatch.setattr(stage_run.StageRun, "log_heldout", watch_heldout)
    return seen


@pytest.mark.parametrize(
    "kind, given", [("lora_sb", False), pytest.param("lora", True, marks=pytest.mark.slow)]
)
def test_a_run_saves_adapters_alone_and_resumes_exactly(
    kind, given, tiny_config, one_device_runs, watched, tmp_path, monkeypatch
):
    """On a drawn base, and on one that is given by another run."""
    adapters = (f"--config.model.lora.kind={kind}", "--config.model.lora.modules=('query', 'down')")
    words, start = (*LORA, *SHORT, *adapters), ""
    if given:
        full = tiny_config("dpo_file", LORA[1], *SHORT, "--config.seed=3")
        with monkeypatch.context() as patch:
            patch.setattr(stage_run.StageRun, "log_heldout", lambda *_: 0.0)
            run(full, tmp_path / "full")
        watched["references"].clear()
        start = str(tmp_path / "full/checkpoints/dpo_file/3")
        words = (*words, f"--config.model.init_from={Path(start).parent}")
    config = tiny_config("dpo_file", *words)
    run(config, tmp_path / "whole")
    # The second stage starts from trained adapters: its reference has them, on the same base.
    assert watched["references"] == [True]
    assert set(watched["bases"]) == {1}
    state = stored(tmp_path / "whole", "dpo_file", 3)
    names = {path[-1] for path in flatten(state["params"])}
    assert names == {"lora_a", "lora_b"} | ({"lora_r"} if kind == "lora_sb" else set())
    note = read_note(tmp_path / "whole/checkpoints/dpo_file/3")
    assert note["base"] == {"init_from": start, "seed": 0}
    warm = stored(tmp_path / "whole", "warmup", 4)["params"]
    for path, leaf in flatten(state["params"]).items():
        fixed = kind == "lora_sb" and path[-1] != "lora_r"
        assert np.array_equal(leaf, flatten(warm)[path]) == fixed, path
        assert np.abs(leaf).max() > 0

    # In the warm-up before any save; then after the save of step 2 of the second stage.
    said = run_killed(config, tmp_path / "stopped", [2, 4 + 3], monkeypatch)
    assert "continuing dpo_file after step 2" in said
    assert watched["references"] == [True] * 3
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_adapters_that_are_zero_are_left_out_of_the_reference(
    tiny_config, one_device_runs, watched, tmp_path
):
    """A single stage with a reference, on a quantised base."""
    words = ("--config.reinforce.reference_kl=true", "--config.reinforce.steps=2")
    config = tiny_config("reinforce", *LORA, *words, "--config.model.lora.base=int8")
    run(config, tmp_path)
    assert watched["references"] == [False]
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "train"]
    # The policy is the reference until its first update, to the last bit but those of the sums.
    assert abs(rows[0]["kl_to_start"]) < 1e-9 and np.isfinite(rows[1]["loss"])


# --- starting from somewhere ---------------------------------------------------------------------


def network_of(tiny_config, tmp_path, *words):
    config = tiny_config("dpo_file", *words)
    made = contexts.build_context(config, validate(config), tmp_path / "none")
    return made.network, made.mesh, Source.of(config)


@pytest.mark.slow
def test_adapters_start_on_the_base_that_they_were_trained_on(
    tiny_config, one_device_runs, tmp_path, monkeypatch
):
    """From drawn parameters, from a run without adapters, and from adapters on either."""
    monkeypatch.setattr(stage_run.StageRun, "log_heldout", lambda *_: 0.0)  # saves its programs
    short = ("--config.warmup.steps=2", "--config.dpo_file.steps=1")
    wide, rank = LORA[1], LORA[0]
    run(tiny_config("dpo_file", wide, *short, "--config.seed=3"), tmp_path / "full")
    full = tmp_path / "full/checkpoints/dpo_file"
    words = (wide, rank, f"--config.model.init_from={full}")
    network, mesh, source = network_of(tiny_config, tmp_path, *words)
    state, frozen = load_start(source, network, mesh)
    trained = stored(tmp_path / "full", "dpo_file", 1)["params"]
    jax.tree.map(np.testing.assert_array_equal, frozen, trained)
    drawn, _ = split_frozen(network.init(source.key, mesh))
    jax.tree.map(np.testing.assert_array_equal, state, drawn)

    run(tiny_config("dpo_file", *words, *short), tmp_path / "adapted")
    adapted = tmp_path / "adapted/checkpoints/dpo_file"
    words = (wide, rank, f"--config.model.init_from={adapted}", "--config.seed=5")
    network, mesh, source = network_of(tiny_config, tmp_path, *words)
    state, frozen = load_start(source, network, mesh)
    jax.tree.map(np.testing.assert_array_equal, frozen, trained)
    expected = stored(tmp_path / "adapted", "dpo_file", 1)["params"]
    jax.tree.map(np.testing.assert_array_equal, state, expected)

    with pytest.raises(ValueError, match="adapters on a frozen base, and this model has none"):
        network_of(tiny_config, tmp_path, wide, words[2])
    with pytest.raises(ValueError, match="does not fit this config"):
        network_of(tiny_config, tmp_path, wide, "--config.model.lora.rank=3", words[2])
    with pytest.raises(ValueError, match="No checkpoint in"):
        check_start(Source("/nowhere", 0), network)


@pytest.mark.parametrize("base", ["full", "int8"])
def test_a_published_checkpoint_becomes_the_frozen_base(base, one_device):
    lora = LoRAConfig(rank=2, alpha=4, base=base)
    network = Network.create(read_config(FIXTURE, lora=lora))
    state, frozen = load_start(Source(str(FIXTURE), 0), network, one_device)
    bare = without_adapters(network)
    expected = load_params(FIXTURE, bare, one_device)
    if base == "int8":
        expected = quantise_base(network, expected, one_device)
    jax.tree.map(np.testing.assert_array_equal, frozen, expected)
    assert adapters_are_zero(state) and has_adapters(state)
    assert base_note(Source(str(FIXTURE), 0), network) == {
        "base": {"init_from": str(FIXTURE), "seed": 0}
    }


@pytest.mark.parametrize("base", ["full", pytest.param("nf4", marks=pytest.mark.slow)])
def test_adapters_learn_the_same_on_a_mesh(base, tiny_network, one_device, mesh_2x2x2):
    network = tiny_network(layers=1, lora=LoRAConfig(rank=2, alpha=4, base=base))
    optimizer, histories = optax.sgd(0.3), []
    for mesh in (one_device, mesh_2x2x2):
        state, frozen = split_frozen(network.init(jax.random.key(0), mesh))
        frozen = quantise_base(network, frozen, mesh)
        shardings = state_shardings(network, optimizer, mesh)
        with jax.set_mesh(mesh):
            state = create_state(state, optimizer, shardings)
            step = jit_train_step(network, squares(network), optimizer, mesh, micro_batches=1)
            losses = []
            for _ in range(4):
                state, metrics = step(state, frozen, put_rows(BATCH, mesh))
                losses.append(float(metrics["loss"].mean()))
        histories.append((losses, jax.device_get(state.params)))
    (one, params), (many, sharded) = histories
    np.testing.assert_allclose(many, one, rtol=1e-5)
    assert one[-1] < one[0] - 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, sharded)
