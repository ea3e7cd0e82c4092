"""Reward models on networks that see both ways, and stages that learn from what they say."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.training import loop
from rljax.training.evaluation import Evaluator
from rljax.training.families.reward import RewardModel
from rljax.training.run.context import build_context
from rljax.training.update.rows import model_inputs
from tests.training.steps import take_step

WORDS = (
    *("model.causal=False", "warmup.method=llada_sft", "warmup.data.canvas_tokens=6"),
    *("ppo.method=diffu_grpo", "ppo.models.value.start_from=", "sampler.diffusion.steps=2"),
)
GIVEN = tuple(f"--config.{word}" for word in WORDS)


def test_a_score_is_of_the_sample_alone_and_of_all_of_it(pieces):
    """Padding is not seen, and what is read at the last token depends on every other one."""
    made = pieces("rlhf", *GIVEN)
    stage = next(stage for stage in made.context.stages if stage.name == "rm")
    context = made.context.of("rm")
    assert not context.network.config.causal and not stage.batch.share_prompts
    family = RewardModel(context, stage, None, 0)
    params = context.network.init(jax.random.key(3), context.mesh)
    state = dataclasses.replace(made.state, params=params)
    (batch,) = take_step(family, state, 1)[1].batches
    loss, _ = jax.jit(family.loss_fn)(params, put_rows(batch, context.mesh))

    rows = {name: np.asarray(array) for name, array in model_inputs(batch).items()}
    model, slots = context.network.bind(params), rows["tokens"].shape[1]

    @jax.jit
    def score(tokens, seen, end):
        """Of a row that is padded behind its end, where batches are padded before the prompt."""
        inputs = tokens[None], jnp.arange(slots)[None], seen[None].astype(jnp.int32)
        return model.scores(model(*inputs).hidden)[0, end, 0]

    scores = []
    for tokens, segments in zip(rows["tokens"], rows["segment_ids"], strict=True):
        own = tokens[segments > 0]
        seen = np.arange(slots) < len(own)
        padded = np.pad(own, (0, slots - len(own)))
        scores.append(float(score(padded, seen, len(own) - 1)))
        padded[0] = (padded[0] + 1) % 256
        assert float(score(padded, seen, len(own) - 1)) != scores[-1]
    assert len(set(rows["mask"].sum(axis=1))) > 1
    sides = np.array(scores).reshape(-1, 2)
    expected = np.log1p(np.exp(sides[:, 1] - sides[:, 0])).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_a_diffusion_policy_learns_from_a_reward_model_of_its_kind(
    tiny_config, tmp_path, one_device_runs, monkeypatch
):
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: {"accuracy_greedy": 0.0})
    short = ("warmup.steps=2", "rm.steps=2", "ppo.steps=1")
    config = tiny_config("rlhf", *GIVEN, *(f"--config.{word}" for word in short))
    loop.run(config, tmp_path, Console(file=io.StringIO()))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = {row["stage"]: row for row in rows if row["kind"] == "train"}
    assert 0 <= last["rm"]["reward_accuracy"] <= 1
    assert last["ppo"]["reward"] == pytest.approx(last["ppo"]["reward/reward_model"], abs=1e-6)
    assert last["ppo"]["reward"] != 0 and last["ppo"]["gradient_norm"] > 0


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["rm.method=process_reward", "ppo.models.reward.step_score=last"],
            "reward_loss='step_binary' needs a causal network, as a step is judged",
        ),
        (
            ["rm.method=generative_reward", "rm.network.head=language_model"],
            "reward_loss='verdict' needs a causal network",
        ),
        (["rm.method=goal_conditioned"], "representation='goal_conditioned' needs a causal netw"),
        (["rm.batch.share_prompts=True"], "Shared-prefix rows need a causal model"),
        (
            [
                *("ppo.models.reward.start_from=warmup", "ppo.models.reward.question=?"),
                "ppo.models.reward.verdicts=('1','0')",
            ],
            "question='\\?' reads slots that must not see what comes behind them",
        ),
    ],
)
def test_what_reads_before_the_end_needs_a_causal_network(
    words, message, tiny_config, tmp_path, one_device_runs
):
    config = tiny_config("rlhf", *GIVEN, *(f"--config.{word}" for word in words))
    with pytest.raises(ValueError, match=message):
        build_context(config, validate(config), tmp_path)
