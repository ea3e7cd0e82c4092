"""A graph of stages: SFT, a reward model, and PPO that starts from the one and reads the other."""

import dataclasses
import importlib.util
import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

from rljax.config.runs import recorded_network
from rljax.config.validate import validate
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config
from rljax.processes.processes import Processes
from rljax.reporting.files import read_rows
from rljax.training import loop
from rljax.training.evaluation import Evaluator
from rljax.training.families.table import family_class
from rljax.training.run.context import build_context
from rljax.training.run.stages import Stages
from rljax.training.update.optimizers import build_optimizer

ROOT = Path(__file__).parents[2]
LAST = {"warmup": 12, "rm": 4, "ppo": 3}


def stored(workdir: Path, stage: str) -> dict:
    """The parameters of a stage's last checkpoint."""
    folder = workdir / "checkpoints" / stage / str(LAST[stage]) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder)["params"]


def assert_equal(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture
def opened(tiny_run, tiny_config, tmp_path, one_device_runs):
    """opened(override, ...): the last stage as it begins, after those of the finished run."""

    def make(*words: str):
        shutil.copytree(tiny_run("rlhf").workdir / "checkpoints", tmp_path / "run/checkpoints")
        shutil.rmtree(tmp_path / "run/checkpoints/ppo")
        config = tiny_config("rlhf", *(f"--config.{word}" for word in words))
        context = build_context(config, validate(config), tmp_path / "run")
        kinds = [family_class(stage) for stage in context.stages]
        with jax.set_mesh(context.mesh):
            graph = Stages(
                context,
                [build_optimizer(stage) for stage in context.stages],
                [kind.carried(context.of(s.name), s) for kind, s in zip(kinds, context.stages)],  # noqa: B905
                [kind.best_metric for kind in kinds],
            )
            assert graph.position() == (2, {"warmup": 12, "rm": 4})
            found = graph.open(2)
        graph.close()
        context.scorer.close()
        return found

    return make


class Stale:
    """A channel to a process whose disk still shows another folder."""

    def exchange(self, name, payload):
        return [payload, payload.replace(b"[]", b"[4]")]


def test_processes_that_see_other_checkpoints_do_not_begin(pieces):
    made = pieces("reinforce")
    context = dataclasses.replace(made.context, processes=Processes(0, 2, Stale(), ("a", "b")))
    with pytest.raises(ValueError, match=r"differ in the checkpoints that they see: reinforce"):
        Stages(context, [], [], ["accuracy_greedy"])


def test_each_stage_is_judged_as_its_family_says(tiny_run):
    run = tiny_run("rlhf")
    rows = list(read_rows(run.workdir / "metrics.jsonl"))
    judged = {
        stage: [row for row in rows if (row["stage"], row["kind"]) == (stage, "heldout")]
        for stage in LAST
    }
    assert all("accuracy_greedy" in row for stage in ("warmup", "ppo") for row in judged[stage])
    assert [row["step"] for row in judged["rm"]] == [3, 4]
    measured = set(judged["rm"][-1]) - {"stage", "step", "kind"}
    assert measured == {
        *("reward_accuracy", "reward_margin", "calibration_error", "accuracy_by_length/shorter"),
        *(f"accuracy_by_margin/{quarter}" for quarter in range(1, 5)),
    }
    assert judged["rm"][-1]["reward_accuracy"] > 0.9  # "no" is easily told from a number
    metrics = run.workdir / "checkpoints/rm/4/metrics/metrics"
    assert json.loads(metrics.read_text()) == {
        "reward_accuracy": judged["rm"][-1]["reward_accuracy"]
    }
    assert run.summary["stages"]["rm"]["heldout_reward_accuracy"] > 0.9
    # The last stage is compared with the one that it starts from.
    assert run.summary["heldout_accuracy_before"] == judged["warmup"][-1]["accuracy_greedy"]
    steps = [row for row in rows if (row["stage"], row["kind"]) == ("ppo", "train")]
    assert len(steps) == 3
    for row in steps:
        assert row["reward"] == pytest.approx(row["reward/reward_model"], abs=1e-6)
        assert row["reward/exact_match"] == pytest.approx(row["accuracy"])


def test_a_stage_starts_from_what_it_names(opened, tiny_run):
    workdir, found = tiny_run("rlhf").workdir, opened()
    warm, rm = stored(workdir, "warmup"), stored(workdir, "rm")
    assert found.done == 0 and set(found.context.models) == {
        "policy",
        "value",
        "reference",
        "reward",
    }
    assert_equal(found.state.params, warm)
    assert_equal(found.reference, warm)
    assert_equal(found.context.models["reward"].params, rm)
    critic = dict(found.state.carried["critic"].params)
    assert not critic.pop("head_bias").any() and critic["head"].any()
    assert_equal(critic, rm)
    assert not np.array_equal(warm["embedding"], rm["embedding"])
    assert "head" not in found.state.params
    # The state is donated: it shares no buffer with what is frozen.
    pointers = [
        {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)}
        for tree in (found.state, found.reference, found.context.models["reward"].params)
    ]
    assert len(set.union(*pointers)) == sum(map(len, pointers))


def test_models_of_other_runs_and_published_ones(opened, tiny_run, tmp_path):
    """A critic on a policy's trunk begins with a zero head."""
    workdir = tiny_run("rlhf").workdir
    export(workdir, "rm", tmp_path / "hf")
    found = opened(
        f"ppo.models.reward.start_from={tmp_path}/hf",
        f"ppo.models.value.start_from={workdir}/checkpoints/warmup",
        f"ppo.models.reference.start_from={workdir}/checkpoints/ppo",
    )
    warm, rm = stored(workdir, "warmup"), stored(workdir, "rm")
    critic = dict(found.state.carried["critic"].params)
    assert not critic.pop("head_bias").any() and not critic.pop("head").any()
    assert_equal(critic, warm)
    assert_equal(found.reference, stored(workdir, "ppo"))
    reward = dict(found.context.models["reward"].params)
    vocabulary = found.context.network.config.vocab_size  # rows that pad it are not published
    assert_equal(reward.pop("embedding")[:vocabulary], rm.pop("embedding")[:vocabulary])
    assert_equal(reward, rm)
    # What is saved names the very step.
    saved = found.context.resolved()["ppo"]["models"]
    assert saved["value"]["start_from"] == f"{workdir}/checkpoints/warmup/12"


def test_with_adapters_all_stages_share_the_base(
    tiny_config, tmp_path, one_device_runs, monkeypatch
):
    """The reward model is adapters and a head on the policy's own frozen matrices."""
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: {"accuracy_greedy": 0.0})
    bases = []
    frozen = Stages.frozen

    def watch(self, model):
        found = frozen(self, model)
        bases.append((model.role, found["embedding"] is self.context.frozen["embedding"]))
        return found

    monkeypatch.setattr(Stages, "frozen", watch)
    words = ("model.lora.rank=2", "ppo.critic.trunk=shared", "ppo.steps=1", "warmup.steps=2")
    words += ("ppo.models.value.start_from=", "rm.steps=2")
    config = tiny_config("rlhf", *(f"--config.{word}" for word in words))
    loop.run(config, tmp_path, Console(file=io.StringIO()))
    assert bases == [("reference", True), ("reward", True)]
    with ocp.StandardCheckpointer() as checkpointer:
        params = checkpointer.restore(tmp_path / "checkpoints/rm/2/state")["params"]
    assert set(params) == {"blocks", "head"} and params["head"].shape == (16, 1)


@pytest.mark.parametrize(
    "word, messages",
    [
        ("ppo.models.reward.start_from=warmup", ["needs 'reward'", "models.reward.start_from"]),
        ("ppo.models.reference.start_from=rm", ["must have the head of its policy"]),
        (
            "ppo.models.reward.start_from={run}/warmup",
            ["has the head 'language_model'", "config.ppo.models.reward.start_from"],
        ),
        (
            "ppo.models.reference.start_from={other}/reinforce",
            ["holds no reference model for this stage", "expected float32[264, 24]"],
        ),
        (
            "ppo.models.value.start_from={other}/reinforce",
            ["holds no value model for this stage", "config.ppo.models.value.start_from"],
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(
    word, messages, tiny_run, tiny_config, tmp_path, one_device_runs
):
    folders = {
        "run": tiny_run("rlhf").workdir / "checkpoints",
        "other": tiny_run("reinforce").workdir / "checkpoints",
    }
    words = [word.format(**folders)] + (["model.width=24"] if "other" in word else [])
    config = tiny_config("rlhf", *(f"--config.{word}" for word in words))
    with pytest.raises(ValueError) as caught:
        build_context(config, validate(config), tmp_path)
    for message in messages:
        assert message in str(caught.value)


def command(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"launch/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(workdir: Path, stage: str, out: Path) -> None:
    assert (
        command("export").main([f"--checkpoint={workdir}/checkpoints/{stage}", f"--out={out}"]) == 0
    )


@pytest.mark.parametrize("stage", LAST)
def test_every_checkpoint_is_exported_with_its_head(stage, tiny_run, tmp_path, one_device):
    workdir = tiny_run("rlhf").workdir
    export(workdir, stage, tmp_path / "hf")
    config = json.loads((workdir / "config.json").read_text())
    recorded = recorded_network(config, workdir / "checkpoints" / stage / "1")
    network = Network.create(read_config(tmp_path / "hf"))
    assert recorded.head == ("reward" if stage == "rm" else "language_model")
    assert dataclasses.replace(network.config, head=recorded.head).head_outputs == 1
    found, expected = load_params(tmp_path / "hf", network, one_device), stored(workdir, stage)
    assert set(found) == set(expected) and ("head" in found) == (stage == "rm")
    if stage == "rm":
        np.testing.assert_array_equal(found["head"], expected["head"])


def test_generating_needs_a_language_model(tiny_run, capsys):
    folder = tiny_run("rlhf").workdir / "checkpoints/rm"
    assert command("generate").main([f"--checkpoint={folder}", "--prompt=1+1="]) == 1
    assert "reward head" in capsys.readouterr().err
