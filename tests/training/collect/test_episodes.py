"""Episodes are exact: what was read and written is what is learned from, token by token."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rljax.environments.record import ENDS
from rljax.parallel.rules import put_rows
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.episodes import rows_of_call
from rljax.training.collect.grouped import step_group, step_rows
from rljax.training.collect.kept_samples import read_kept
from rljax.training.collect.rewards import make_reward
from rljax.training.collect.sampled_once import answer_columns, prompt_columns
from rljax.training.collect.turn_rewards import turn_rewards
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.update.logprobs import model_rows
from tests.training.steps import take_step

ROOM, TURNS, REPLY = 72, 3, 6
OPTIONS = "{'reward': 'exact_match', 'tries': 9, 'again': 'no'}"
EPISODES = (
    "--config.environment.name=retries",
    f"--config.environment.options={OPTIONS}",
    f"--config.environment.turns={TURNS}",
    f"--config.environment.turn_tokens={REPLY}",
    "--config.tokenizer.chat_turn={role}: {content}\n",
    "--config.tokenizer.chat_generation_prompt=assistant: ",
    "--config.data.max_prompt_tokens=24",
    "--config.scoring.rewards=({'name': 'environment'},)",
    f"--config.grpo.sampling.max_new_tokens={ROOM}",
    "--config.evaluation.max_new_tokens=48",
    # Half of the random model's replies end by themselves.
    "--config.grpo.sampling.logit_bias=((258, 5.0),)",
)


@pytest.fixture
def played(pieces):
    """A family of episodes, and the samples of its first step."""
    made = pieces("grpo", *EPISODES)
    family = PolicyGradient(made.context, made.stage, None, 0)
    return made, family, samples_of(made, family)


def samples_of(made, family, records=range(4)):
    rollouts = family.source.rollouts
    problems = [{**made.context.train_problems[n], "id": n} for n in records]
    weights = rollouts.sampler.load(made.params)
    return rollouts.sampler.play(weights, problems, key=rollouts.key, step=1, version=7)


def test_an_episode_is_its_conversation_token_by_token(played):
    """Sampled and inserted ids together are the template's text; every end is seen."""
    made, _, samples = played
    tokenizer, rollouts = made.context.tokenizer, samples.rollouts
    mask, inserted = samples.flat("mask"), samples.flat("inserted")
    assert not (mask & inserted).any() and inserted.any()
    assert (samples.versions == 7).all()
    for row, episode in enumerate(samples.episodes):
        present = mask[row] | inserted[row]
        count = int(present.sum())
        assert present[:count].all()  # no slot is skipped
        assert mask[row, count - 1]  # nothing is inserted that nobody answers
        text = tokenizer.decode(rollouts.tokens.reshape(len(mask), -1)[row, :count])
        replies = [turn["reply"] for turn in episode["turns"]]
        assert text == "\nuser: no\nassistant: ".join(replies)
        for turn in episode["turns"]:
            assert mask[row, turn["begin"] : turn["end"]].all()
        assert sum(turn["end"] - turn["begin"] for turn in episode["turns"]) == mask[row].sum()
        assert samples.texts[row] == replies[-1]
        said = [message["content"] for message in episode["messages"][1:]]
        assert said == [x for reply in replies for x in (reply, "no")][:-1]
    ends = {episode["end"] for episode in samples.episodes}
    assert ends <= set(ENDS) and {"cut", "turns"} <= ends
    finished = [episode["end"] == "done" for episode in samples.episodes]
    np.testing.assert_array_equal(samples.flat("finished"), finished)


def test_the_trainer_reads_what_the_sampler_read(played):
    """The log-probability of every sampled token behind all that stands before it."""
    made, family, samples = played
    group = step_group(samples, make_reward(made.context, made.stage).score(samples))
    rows = step_rows(samples, group, made.stage)
    placed = put_rows(model_rows(rows), made.context.mesh)
    found = np.asarray(family.learner.logprobs(made.params, placed)).reshape(group.mask.shape)
    np.testing.assert_allclose(found[group.mask], group.logprobs[group.mask], atol=2e-5)


def test_what_is_inserted_is_read_and_not_learned(played):
    """Another answer changes what follows it; the loss has no term of its own for it."""
    made, family, samples = played
    group = step_group(samples, make_reward(made.context, made.stage).score(samples))
    apart = dataclasses.replace(made.stage.batch, share_prompts=False)
    rows = step_rows(samples, group, dataclasses.replace(made.stage, batch=apart))
    inserted = samples.flat("inserted")
    row = int(np.argmax(inserted.any(axis=1)))
    place = int(np.argmax(inserted[row]))
    slots = rows["tokens"].shape[1] - ROOM
    changed = {name: np.array(value) for name, value in rows.items()}
    changed["tokens"][row, slots + place] += 1
    both = [
        np.asarray(family.learner.logprobs(made.params, put_rows(model_rows(r), made.context.mesh)))
        for r in (rows, changed)
    ]
    differs = ~np.isclose(*both, atol=1e-7) & rows["mask"]
    assert not differs[row, :place].any() and differs[row, place:].any()
    assert not np.delete(differs, row, axis=0).any()
    assert not (rows["mask"] & inserted).any()


def test_company_and_cohorts_change_no_token(pieces, played):
    """An episode alone, in a crowd, in calls of few rows: the same ids."""
    made, family, whole = played
    for records in ([2], [3, 2]):
        some = samples_of(made, family, records)
        np.testing.assert_array_equal(some.rollouts.tokens[-1], whole.rollouts.tokens[2])
    few = pieces("grpo", *EPISODES, "--config.environment.rows_per_call=3")
    other = PolicyGradient(few.context, few.stage, None, 0)
    again = samples_of(few, other)
    for name in ("tokens", "mask", "inserted", "stop_reason"):
        np.testing.assert_array_equal(
            getattr(again.rollouts, name), getattr(whole.rollouts, name), err_msg=name
        )
    assert again.episodes == whole.episodes


def test_a_step_is_learned_from(played):
    """From samples to a finite update, with the metrics of episodes."""
    made, family, _ = played
    _, batches = take_step(family, made.state, 1)
    metrics = batches.metrics
    assert 1 <= metrics["episode_turns"] <= TURNS
    assert metrics["inserted_tokens"] > 0
    assert sum(metrics[f"episodes_{end}"] for end in ENDS) == pytest.approx(1)


def test_an_episode_that_is_kept_teaches_its_replies(played, tmp_path):
    """Its row holds what was read and written, and only the latter is learned."""
    samples, path = played[2], tmp_path / "kept.jsonl"
    rows = [
        prompt_columns(samples, n) | answer_columns(samples, n, "completion")
        for n in range(len(samples.episodes))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mask, inserted = samples.flat("mask"), samples.flat("inserted")
    for n, (example, row) in enumerate(zip(read_kept(path), rows, strict=True)):
        count, lead = int((mask | inserted)[n].sum()), len(row["prompt_tokens"])
        assert list(example.tokens[lead:]) == samples.flat("tokens")[n, :count].tolist()
        assert list(example.learned) == [False] * lead + mask[n, :count].tolist()
        assert row["messages"] == samples.episodes[n]["messages"]


def test_rewards_of_turns_stay_where_they_were_earned(played):
    made, family, samples = played
    for number, episode in enumerate(samples.episodes):
        for place, turn in enumerate(episode["turns"]):
            turn["reward"] = float(number + place)
    found = turn_rewards(made.context, _drawn(samples)).arrays["turn_rewards"]
    for row, episode in enumerate(samples.episodes):
        expected = [turn["reward"] for turn in episode["turns"] if turn["end"] > turn["begin"]]
        ends = [turn["end"] - 1 for turn in episode["turns"] if turn["end"] > turn["begin"]]
        np.testing.assert_array_equal(found[row, ends], expected)
        assert found[row].sum() == sum(expected)


def _drawn(samples):
    class Drawn:
        pass

    drawn = Drawn()
    drawn.samples = samples
    return drawn


def test_rows_of_a_call():
    assert [rows_of_call(rows, 16) for rows in (16, 5, 4, 1)] == [16, 16, 4, 4]
    assert [rows_of_call(rows, 3) for rows in (3, 2, 1)] == [3, 3, 1]
    assert rows_of_call(1, 1) == 1


def test_keys_are_those_of_rollouts(played):
    made, family, _ = played
    expected = purpose_key(made.context.config.seed, Purpose.ROLLOUTS)
    found = family.source.rollouts.key
    np.testing.assert_array_equal(*(jax.random.key_data(key) for key in (expected, found)))
