"""The command that chooses and weighs examples, on the warm-up of a tiny run."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from rljax.objectives.angles import angle_signal, mean_angle
from rljax.parallel.mesh import make_mesh
from rljax.training.data_selection.angles import shared_ends
from rljax.training.data_selection.passes import flat, gradients_of_rows, losses_of_rows
from rljax.training.data_selection.projection import CHUNK, projected
from rljax.training.data_selection.sets import best_share, read_set
from rljax.training.data_selection.warmup import load_checkpoints, mean_rates
from tests.launch.test_commands import load

WORDS = ("aaaa", "bbbb", "cccc", "dddd", "eeee")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A pool of five tasks, each with a word of its own for an answer, and a target of two."""
    folder = tmp_path_factory.mktemp("pool")
    lines = [
        {"prompt": f"{n}+{task}=", "completion": word, "task": word}
        for n in range(6)
        for task, word in enumerate(WORDS)
    ]
    target = [{**line, "prompt": f"9+{n}="} for n, line in enumerate(lines[1:4:2])]
    for name, rows in (("pool", lines), ("target", target)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_less_finds_the_tasks_of_the_target(one_device_runs, tiny_run, files, tmp_path, capsys):
    """The target holds two of five tasks: by the mean of their examples these two come first."""
    checkpoint, out = tiny_run("grpo").workdir / "checkpoints/warmup", tmp_path / "chosen.jsonl"
    words = ["less", f"--checkpoints={checkpoint}", f"--pool={files / 'pool.jsonl'}"]
    words += [f"--target={files / 'target.jsonl'}", "--task-column=task", "--keep=1"]
    command = load("select")
    assert command.main([*words, "--projection=512", f"--out={out}"]) == 0
    assert "30 of 30 rows" in capsys.readouterr().out
    chosen = rows_of(out)
    wanted = {row["task"] for row in rows_of(files / "target.jsonl")}
    means = {
        word: np.mean([row["influence"] for row in chosen if row["task"] == word]) for word in WORDS
    }
    assert len(wanted) == 2 and set(sorted(means, key=means.get)[-2:]) == wanted
    assert {row["weight"] for row in chosen} == {1.0}
    assert all(-1.01 <= row["influence"] <= 1.01 for row in chosen)
    assert command.main([*words, f"--out={out}"]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_losses_become_weights_of_mean_one(one_device_runs, tiny_run, files, tmp_path, capsys):
    workdir, out = tiny_run("grpo").workdir, tmp_path / "weighted.jsonl"
    checkpoint = workdir / "checkpoints/warmup"
    words = ["loss", f"--checkpoints={checkpoint}", f"--pool={files / 'pool.jsonl'}"]
    assert load("select").main([*words, f"--out={out}"]) == 0
    assert "wrote 30 of 30" in capsys.readouterr().out
    rows = rows_of(out)
    losses, weights = (np.array([row[name] for row in rows]) for name in ("loss", "weight"))
    assert weights.mean() == pytest.approx(1) and weights.argmin() == losses.argmin()
    order = np.argsort(losses)
    assert (np.diff(weights[order]) >= -1e-9).all()
    # Single examples have the losses and gradients of the whole, whatever stands beside them.
    mesh = make_mesh({"data": 1}, devices=jax.devices()[:1])
    (found,) = load_checkpoints([checkpoint], mesh, "--checkpoints", moments=True)
    shown = read_set(files / "pool.jsonl", found.text_format, 64, "--pool").examples[:3]
    batch = {
        "tokens": np.array([one.tokens for one in shown], np.int32),
        "mask": np.array([one.learned for one in shown])[:, 1:],
    }
    batch["positions"] = np.broadcast_to(np.arange(batch["tokens"].shape[1]), batch["tokens"].shape)
    batch["segment_ids"] = np.ones_like(batch["tokens"])
    with jax.set_mesh(mesh):
        own = losses_of_rows(found.network)
        np.testing.assert_allclose(own(found.trained, found.frozen, batch), losses[:3], rtol=1e-4)
        each = gradients_of_rows(found.network)(found.trained, found.frozen, batch)
        mean = jax.grad(lambda p: own(p, found.frozen, batch).mean())(found.trained)
        np.testing.assert_allclose(each.mean(axis=0), flat(mean), atol=1e-6)
    # The moments are those of the run, in the order of the gradients.
    state = ocp.load(found.where, checkpointable_name="state")["optimizer_state"]
    np.testing.assert_array_equal(found.moments[1], flat(state[1][0]["nu"]))
    assert found.rate == pytest.approx(3e-2, rel=1e-3)


def test_angles_rank_problems(one_device_runs, tiny_run, files, tmp_path, capsys):
    workdir, out = tiny_run("grpo").workdir, tmp_path / "ranked.jsonl"
    words = ["angle", f"--checkpoints={workdir / 'checkpoints/warmup'}", "--rows=4"]
    assert load("select").main([*words, f"--pool={files / 'pool.jsonl'}", f"--out={out}"]) == 0
    assert "wrote 30 of 30" in capsys.readouterr().out
    rows = rows_of(out)
    assert [row["prompt"] for row in rows] == [x["prompt"] for x in rows_of(files / "pool.jsonl")]
    # Prompts are n+t=: nothing at the start is shared, the last token is, and is no question.
    mesh = make_mesh({"data": 1}, devices=jax.devices()[:1])
    (found,) = load_checkpoints([workdir / "checkpoints/warmup"], mesh, "", moments=False)
    tokens = jnp.asarray([list(rows[7]["prompt"].encode())])
    where = jnp.arange(tokens.shape[1])[None], jnp.ones_like(tokens)
    model = found.network.bind(found.trained)
    with jax.set_mesh(mesh):
        states = model.last_mlp_inputs(tokens, *where)
        # With the MLP of these states the last block's output is whole.
        entered, last = model.hidden_states(tokens, *where)[-2:]
        block = jax.tree.map(lambda leaf: leaf[-1], found.trained["blocks"])
        (block,) = found.network.bind_layers({**found.trained, "blocks": (block,)})[1]
        stream = last - block.mlp(states)
        np.testing.assert_allclose(block.mlp_norm(stream), states, atol=1e-4)
        assert float(jnp.abs(stream - entered).max()) > 0
    length, question = tokens.shape[1], jnp.arange(tokens.shape[1]) < tokens.shape[1] - 1
    signal = angle_signal(states[0], question, ~question & False)
    assert rows[7]["angle_signal"] == pytest.approx(float(signal), rel=1e-4)
    whole = mean_angle(states[0], jnp.ones(length, bool))
    assert rows[7]["angle"] == pytest.approx(float(whole), rel=1e-4)


def test_what_all_prompts_share_is_no_question():
    assert shared_ends([[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 5, 6, 9]]) == (2, 1)
    assert shared_ends([[1, 2], [1, 2]]) == (1, 0) and shared_ends([[1], [1, 2]]) == (0, 0)


@pytest.mark.parametrize(
    "words, said",
    [
        (["less"], r"compares with examples of what is wanted \(--target\)"),
        (["less", "--loss-map=upper"], r"only loss reads it \(--loss-map"),
        (["loss", "--keep=0.1"], r"only less reads it \(--keep"),
        (["loss", "--checkpoints=a,b"], r"loss asks one model"),
        (["loss"], "No checkpoint in"),
    ],
)
def test_flags_that_nobody_reads_are_refused(words, said, files, tmp_path, capsys):
    given = [f"--pool={files / 'pool.jsonl'}", f"--out={tmp_path / 'out'}", *words]
    if not any(word.startswith("--checkpoints") for word in words):
        given.append(f"--checkpoints={tmp_path}")
    assert load("select").main(given) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1

    assert re.search(said, error)


def test_random_signs_keep_inner_products():
    rng, size = np.random.default_rng(0), 2048
    vectors = jnp.asarray(rng.normal(size=(4, 3 * CHUNK + 5)), jnp.float32)
    vectors /= jnp.linalg.norm(vectors, axis=1, keepdims=True)
    found = projected(vectors, jax.random.key(0), size)
    assert found.shape == (4, size)
    errors = np.asarray(found @ found.T - vectors @ vectors.T)
    assert 0 < np.abs(errors).max() < 4 / np.sqrt(size)
    assert projected(vectors, jax.random.key(0), 9999) is vectors


def test_shares_and_rates(tmp_path):
    assert best_share(np.array([1.0, 3.0, 2.0, 3.0]), 0.5) == [1, 3]
    assert best_share(np.array([1.0, 3.0]), 0.01) == [1]
    steps = [tmp_path / "checkpoints/sft" / str(number) for number in (2, 4)]
    rows = [{"stage": "sft", "step": n, "learning_rate": n / 10} for n in (1, 2, 3, 4)]
    rows.append({"stage": "rl", "step": 1, "learning_rate": 9.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert mean_rates(steps) == pytest.approx([0.15, 0.35])
    with pytest.raises(ValueError, match="has no learning rate of stage 'sft' in steps 5 to 6"):
        mean_rates([steps[1], steps[1].with_name("6")])
