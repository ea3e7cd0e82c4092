"""What does not go with episodes is one line before anything runs, which names both fields."""

import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.planning.programs import check_no_episodes
from rljax.training.device_loop.program import check_device_loop

GUESS = {"environment": {"name": "guess"}, "scoring": {"rewards": ({"name": "environment"},)}}
SOURCE = {"data": {"source": "sampled_pairs"}}
REWARD = {"models": {"reward": {"start_from": "rm", "step_score": "min"}}}
RM = {
    "method": "process_reward",
    "network": {"head": "reward"},
    "data": {"path": "configs/examples/pairs.jsonl"},
}
SFT = {"method": "sft", "data": {"source": "jsonl", "path": "configs/examples/pairs.jsonl"}}
SHOWN = {"data": {"source": "sampled", "hint_pattern": "{prompt} ({context})"}}
TREE = {"branching": (2, 4)}
TEACHER = {"models": {"teacher": {"start_from": "sft"}}}
BEFORE = {"rm": RM, "sft": SFT}
GATED = {"rewards": ({"name": "environment", "clip": (0, 1)},)}


def config_of(stage, more=None):
    """A config with an environment whose last stage is the one that is given."""
    before = [each["start_from"] for each in stage.get("models", {}).values()]
    stages = {**{name: BEFORE[name] for name in before}, "rl": stage}
    config = {"data": {"kind": "environment", "max_prompt_tokens": 64}, **GUESS, **stages}
    for section, fields in (more or {}).items():
        config[section] = {**config.get(section, {}), **fields}
    return complete({"stages": tuple(stages), **config})


def test_whole_replies_in_turn_go_together():
    (stage,) = validate(config_of({"method": "grpo"}))
    assert stage.objective.choices["rollouts"] == "whole"
    validate(config_of({"method": "grpo"}, {"environment": {"turn_credit": True}}))


STAGES = {
    "trees": ({"method": "spo_tree", "objective": TREE}, "rollouts='tree'", "objective.rollouts"),
    "windows": ({"method": "t_ppo"}, "rollouts='windows'", "objective.rollouts"),
    "searches": ({"method": "deepsearch"}, "rollouts='search'", "objective.rollouts"),
    "rounds": ({"method": "reinforce_ada"}, "allocation='successive'", "objective.allocation"),
    "screens": ({"method": "speed"}, "allocation='screening'", "objective.allocation"),
    "demonstrations": ({"method": "hpt"}, "demonstrations='switch'", "objective.demonstrations"),
    "hints": ({"method": "guide_grpo"}, "demonstrations='guided'", "objective.demonstrations"),
    "values of prefixes": ({"method": "vineppo"}, "advantage='", "objective.advantage"),
    "a teacher": ({"method": "opd", **TEACHER}, "teacher='log_ratio'", "objective.teacher"),
    "masked diffusion": ({"method": "tracerl"}, "likelihood='", "objective.likelihood"),
    "pairs": ({"method": "dpo", **SOURCE}, "'preference'", "method"),
    "evidence": ({"method": "jepo"}, "'evidence'", "method"),
    "a population": ({"method": "eggroll"}, "'evolution'", "method"),
    "hints of answers": ({"method": "sft", **SHOWN}, "hint_pattern='", "data.hint_pattern"),
    "scores of steps": ({"method": "grpo", **REWARD}, "step_score='min'", "models.reward"),
}


@pytest.mark.parametrize("kind", STAGES)
def test_stages_that_play_no_episodes(kind):
    stage, value, field = STAGES[kind]
    assert_one_line(config_of(stage), value, f"config.rl.{field}", "config.environment.name")


RUNS = {
    "several answers": ({"evaluation": {"answer_samples": 4}}, "answer_samples=4", "evaluation"),
    "pieces": (
        {"asynchronous": {"max_staleness": 1, "partial_tokens": 8}},
        "partial_tokens=8",
        "config.asynchronous.partial_tokens",
    ),
    "agents ahead": (
        {
            "environment": {"name": "", "agent": "a.py"},
            "data": {"kind": "jsonl", "path": "configs/examples/problems.jsonl"},
            "asynchronous": {"max_staleness": 1},
        },
        "agent='a.py'",
        "config.asynchronous.max_staleness",
    ),
    "nothing to place": (
        {"environment": {"turn_credit": True}, "scoring": {"rewards": ({"name": "exact_match"},)}},
        "turn_credit=True",
        "config.environment.turn_credit",
    ),
    "a clipped sum": (
        {"environment": {"turn_credit": True}, "scoring": GATED},
        "turn_credit=True",
        "config.environment.turn_credit",
    ),
    "no environment": (
        {"environment": {"name": "", "turns": 3}},
        "turns=3",
        "config.environment.turns",
    ),
    "problems of none": ({"environment": {"name": ""}}, "kind='environment'", "config.data.kind"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_fields_that_do_not_go_with_episodes(kind):
    more, value, field = RUNS[kind]
    assert_one_line(config_of({"method": "tis"}, more), value, field)


@pytest.mark.parametrize("check", [check_device_loop, check_no_episodes])
def test_neither_the_device_loop_nor_a_plan_plays_them(check):
    config = config_of({"method": "grpo"})
    stages = validate(config)
    with pytest.raises(ValueError, match=r"'guess'.*config\.environment\.name") as error:
        check(config, tuple(stages))
    assert "\n" not in str(error.value)


def assert_one_line(config, *said):
    with pytest.raises(ValueError) as error:
        validate(config)
    message = str(error.value)
    assert "\n" not in message and all(part in message for part in said), message
