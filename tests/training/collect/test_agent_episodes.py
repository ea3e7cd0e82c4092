"""Agents play against the server of a run: every id that is learned was sampled, or inserted."""

import inspect
import threading

import numpy as np
import pytest

from rljax.config.validate import validate
from rljax.environments.agents import Agents, Endpoint, find_agent, prepare
from rljax.parallel.rules import put_rows
from rljax.processes.processes import Processes
from rljax.serving.episodes import Ended, Segment, Turn
from rljax.training.collect.agent_episodes import AgentPlayer, shared_prompt
from rljax.training.collect.episodes import Player
from rljax.training.collect.grouped import step_group, step_rows
from rljax.training.collect.rewards import make_reward
from rljax.training.collect.rollouts import rollout_metrics, score_texts
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.run.text_format import make_text_format, settle_tokenizer
from rljax.training.run.workers import make_workers
from rljax.training.update.logprobs import model_rows
from tests.training.collect.test_episodes import EPISODES, TURNS, samples_of
from tests.training.steps import take_step

pytest.importorskip("uvicorn")

AGENT = "configs/examples/agent.py"
PLAYED = [word for word in EPISODES if "environment.name" not in word and "options" not in word]
PLAYED += [
    f"--config.environment.agent={AGENT}",
    "--config.environment.agent_processes=2",
    "--config.scoring.max_failed_share=1.0",
]
OPTIONS = f"--config.environment.options={{'tries': {TURNS}, 'again': 'no'}}"

# Four kinds of agents, by the problem's id.
ODD = """
import time
import configs.examples.agent as example

def play(record, endpoint, kind=None):
    number = record["id"] % 4 if kind is None else kind
    messages = [{"role": "user", "content": record["prompt"]}]
    if number == 0:  # begins each episode in another way
        messages[0]["content"] = record["prompt"][:-3] + endpoint.api_key[:3]
    if number == 1:
        return 0.5  # never asks
    choice = example.ask(endpoint, messages)
    if number == 2:
        raise RuntimeError("lost its way")
    if number == 3:
        messages[0]["content"] += "!"
        example.ask(endpoint, [*messages, choice["message"], *messages])
    return 2.0

def alone(record, endpoint, kind):
    if kind == "sleeps":
        time.sleep(100)
    return {"text": "much", "nan": float("nan"), "none": None, "one": 1}[kind]
"""


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("agents") / "odd.py"
    path.write_text(ODD)
    return str(path)


def test_an_agent_plays_what_the_environment_plays(pieces):
    """The same tokens, masks and ends as the built-in environment with the same answers; and every
    id is one that the server sampled or inserted."""
    made = pieces("grpo", *PLAYED, OPTIONS)
    family = PolicyGradient(made.context, made.stage, None, 0)
    service = family.source.rollouts.sampler.service
    kept, end = [], service.end

    def ended():
        kept.append(end())
        return kept[-1]

    service.end = ended
    before = set(threading.enumerate())  # servers of other tests among them
    samples = samples_of(made, family)
    (episodes,) = kept
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("rljax-")]

    # Counted by key: what the server kept is what the rows hold, id by id.
    keys, rollouts = list(episodes), samples.rollouts
    mask, inserted = samples.flat("mask"), samples.flat("inserted")
    tokens, logprobs = samples.flat("tokens"), samples.flat("logprobs")
    prompts = samples.repeated(
        [row[here].tolist() for row, here in zip(samples.prompts, samples.prompt_mask, strict=True)]
    )
    found = {}
    for row, prompt in enumerate(prompts):
        count = int((mask[row] | inserted[row]).sum())
        found[tuple(prompt + tokens[row, :count].tolist())] = row
    counts = {"trained": int(mask.sum()), "sampled": 0, "inserted": 0}
    for key in keys:
        (segment,) = episodes[key].segments
        row = found[tuple(segment.ids)]
        behind = len(segment.ids) - len(prompts[row])
        counts["sampled"] += segment.sampled.count(True)
        counts["inserted"] += segment.sampled[-behind:].count(False)
        np.testing.assert_array_equal(mask[row, :behind], segment.sampled[-behind:])
        np.testing.assert_array_equal(
            logprobs[row, :behind], np.float32(segment.logprobs[-behind:])
        )
    assert len(keys) == len(prompts)
    assert counts["trained"] == counts["sampled"] > 0
    assert counts["inserted"] == inserted.sum() > 0

    # Equal to the environment that answers in the same way.
    built_in = pieces("grpo", *EPISODES)
    expected = samples_of(built_in, PolicyGradient(built_in.context, built_in.stage, None, 0))
    for name in ("tokens", "mask", "inserted"):
        np.testing.assert_array_equal(
            getattr(rollouts, name), getattr(expected.rollouts, name), err_msg=name
        )
    np.testing.assert_array_equal(samples.prompts, expected.prompts)
    for name in ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature"):
        np.testing.assert_allclose(
            getattr(rollouts, name), getattr(expected.rollouts, name), atol=3e-5, err_msg=name
        )
    replies = [[turn["reply"] for turn in each["turns"]] for each in samples.episodes]
    assert replies == [[turn["reply"] for turn in each["turns"]] for each in expected.episodes]
    for ours, theirs in zip(samples.episodes, expected.episodes, strict=True):
        # The agent leaves after its last try; the environment is cut off after as many turns.
        assert (ours["end"], theirs["end"]) in {("cut",) * 2, ("room",) * 2, ("done", "turns")}
        plain = [(message["role"], message["content"]) for message in theirs["messages"]]
        said = [(message["role"], message["content"]) for message in ours["messages"]]
        assert len(said) == len(plain)

    # The trainer reads what the server read, and learns from it.
    group = step_group(samples, make_reward(made.context, made.stage).score(samples))
    placed = put_rows(model_rows(step_rows(samples, group, made.stage)), made.context.mesh)
    read = np.asarray(family.learner.logprobs(made.params, placed)).reshape(group.mask.shape)
    np.testing.assert_allclose(read[group.mask], group.logprobs[group.mask], atol=3e-5)
    again = samples_of(made, family)
    assert all(
        np.array_equal(getattr(again.rollouts, name), getattr(rollouts, name))
        for name in ("tokens", "logprobs", "entropy")
    )
    assert again.episodes == samples.episodes
    _, batches = take_step(family, made.state, 1)
    assert batches.metrics["inserted_tokens"] > 0


def test_agents_that_fail_cost_their_own_samples(pieces, agent_file):
    """One begins in many ways, one never asks, one raises, one writes its conversation anew."""
    words = [word for word in PLAYED if AGENT not in word]
    made = pieces("grpo", *words, f"--config.environment.agent={agent_file}")
    family = PolicyGradient(made.context, made.stage, None, 0)
    samples = samples_of(made, family)
    scores = score_texts(made.context, samples)
    group, counts = samples.samples_per_prompt, samples.flat("mask").sum(axis=1)
    np.testing.assert_array_equal(scores.failed.reshape(4, group).all(axis=1), [0, 1, 1, 1])
    np.testing.assert_array_equal(scores.failed.reshape(4, group).any(axis=1), [0, 1, 1, 1])
    np.testing.assert_array_equal(scores.total[:group], 2.0)
    written = (counts > 0).reshape(4, group)
    np.testing.assert_array_equal(written.all(axis=1), [1, 0, 1, 1])
    assert not written[1].any()
    assert samples.episodes[0]["error"] is None
    errors = [episode["error"] for episode in samples.episodes[::group]]
    assert errors[0] is None and "no answer of the model" in errors[1]
    assert "lost its way" in errors[2] and "HTTP Error 400" in errors[3]
    metrics = rollout_metrics(samples, scores)
    assert (metrics["scoring_failures"], metrics["episodes_failed"]) == (3 * group, 0.75)

    # What the first prompts do not have in common is read, and is no part of the prompt.
    tokenizer = made.context.tokenizer
    question = f"user: {made.context.train_problems[0]['prompt'][:-3]}"
    assert tokenizer.decode(samples.prompts[0][samples.prompt_mask[0]]).startswith(question)
    for row in range(group):
        first = int(np.argmax(samples.flat("mask")[row]))
        assert samples.flat("inserted")[row, :first].all() and first > 0
        shown = tokenizer.decode(samples.flat("tokens")[row, :first])
        assert shown.endswith("\nassistant: ")
        assert samples.episodes[row]["turns"][0]["begin"] == first

    rows = step_group(samples, make_reward(made.context, made.stage).score(samples))
    placed = put_rows(model_rows(step_rows(samples, rows, made.stage)), made.context.mesh)
    read = np.asarray(family.learner.logprobs(made.params, placed)).reshape(rows.mask.shape)
    np.testing.assert_allclose(read[rows.mask], rows.logprobs[rows.mask], atol=3e-5)
    _, batches = take_step(family, made.state, 1)
    assert np.isfinite([float(value) for value in batches.metrics.values()]).all()


def test_a_reward_that_nobody_reads_is_refused(pieces, agent_file):
    words = [word for word in PLAYED if AGENT not in word and "scoring.rewards" not in word]
    made = pieces("grpo", *words, f"--config.environment.agent={agent_file}")
    family = PolicyGradient(made.context, made.stage, None, 0)
    with pytest.raises(ValueError, match="returns a reward, 2.0, that none of config.scoring.rew"):
        samples_of(made, family, [0])


def test_what_agents_return(agent_file):
    """Numbers and None; the rest is an error of its episode, and so is one that does not end."""
    endpoint = Endpoint("http://127.0.0.1:1/v1", "key", "policy")
    expected = {"one": 1.0, "none": None, "text": "a number or None", "nan": "finite reward"}
    settings = dict(workers=1, memory_mb=4096)
    for kind, found in expected.items():
        play = prepare(f"{agent_file}:alone", {"kind": kind})
        if isinstance(found, str):
            with pytest.raises(ValueError, match=found):
                play({}, endpoint)
        else:
            assert play({}, endpoint) == found
    with Agents(f"{agent_file}:alone", {"kind": "sleeps"}, seconds=0.5, **settings) as agents:
        (outcome,) = agents.play([({}, endpoint)])
    assert outcome == (None, "The agent took longer than 0.5 s.")


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("missing.py", {}, "No file 'missing.py'"),
        (f"{AGENT}:pley", {}, "pley.*play"),
        (f"{AGENT}:OPENER", {}, "must be a function"),
        (AGENT, {"trys": 2}, "trys"),
    ],
)
def test_an_agent_that_cannot_be_called(name, options, match):
    with pytest.raises(ValueError, match=match):
        find_agent(name, options)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["name=guess", f"agent={AGENT}"], "give one of both"),
        ([f"agent={AGENT}", "timeout_seconds=3.0"], "never read without an environment"),
        (["name=guess", "agent_processes=3"], "never read without an agent"),
        (["turns=3"], "never read without an environment"),
    ],
)
def test_fields_that_nobody_reads(tiny_config, words, match):
    with pytest.raises(ValueError, match=match):
        validate(tiny_config("grpo", *(f"--config.environment.{word}" for word in words)))


def test_agents_play_with_one_process(tiny_config):
    config = tiny_config("grpo", *PLAYED)
    text_format = make_text_format(settle_tokenizer(config))
    with pytest.raises(ValueError, match="one process, and the run has 2"):
        make_workers(config, text_format, Processes(0, 2))


def test_agents_are_asked_as_environments_are():
    """What samples problems takes either, with the same arguments."""
    assert inspect.signature(AgentPlayer.play) == inspect.signature(Player.play)


def test_first_prompts_with_nothing_in_common():
    def begun(*ids: int) -> Ended:
        segment = Segment()
        segment.insert(list(ids))
        segment.turns.append(Turn(len(ids), len(ids), "length", 0, 0, 1.0, 0))
        return Ended([segment], [])

    assert shared_prompt([begun(1, 2, 3), None, begun(1, 2, 4, 5)]) == [1, 2]
    assert shared_prompt([None, None]) == []
    with pytest.raises(ValueError, match="differ from their first id on"):
        shared_prompt([begun(1), begun(2)])
