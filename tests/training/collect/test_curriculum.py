"""A prompt source that follows a curriculum: columns, state, and what is refused."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.objectives.curricula import CURRICULA, Problems
from rljax.training.collect.curriculum import (
    CurriculumPrompts,
    check_count,
    known_problems,
    labelled,
)
from rljax.training.device_loop.prompts import ByCurriculum
from rljax.training.learner.needs import reads_values

RECORDS = [{"prompt": f"{i}=", "kind": kind} for i, kind in enumerate("aabbb")]
STREAM = jax.random.key(1)


def known(records, curriculum, **columns):
    named = {"difficulty_column": "", "angle_column": "", "source_column": "", **columns}
    data = type("Data", (), {**named, "__getitem__": lambda self, name: named[name]})()
    return known_problems(records, SimpleNamespace(data=data), CURRICULA[curriculum]())


def source(curriculum="vade", records=RECORDS, **fields):
    return CurriculumPrompts(
        records, Problems(len(records)), CURRICULA[curriculum](**fields), STREAM
    )


def test_labels_are_numbered_in_order():
    assert labelled(["b", "a", "b"])[0] == ("a", "b")
    names, rows = labelled([10, 9, 10])
    assert names == ("9", "10") and rows.tolist() == [1, 0, 1]
    problems = known(RECORDS, "dump", source_column="kind")
    assert problems.source_names == ("a", "b") and problems.sources.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("curriculum", "columns", "records", "message"),
    [
        ("dump", {}, RECORDS, r"source_column names none; .*\['kind', 'prompt'\]"),
        ("dump", {"source_column": "topic"}, RECORDS, r"record 0 has no 'topic'; it has"),
        ("easy_to_hard", {"difficulty_column": "kind"}, RECORDS, "record 0: 'kind' must be a fini"),
        (
            "mixture",
            {"source_column": "kind"},
            [*RECORDS, {"prompt": "9=", "kind": None}],
            "record 5 has no 'kind'",
        ),
        ("dump", {"source_column": "kind"}, [*RECORDS, {"kind": float("nan")}], "record 5 has no"),
        (
            "dump",
            {"source_column": "prompt"},
            RECORDS,
            "5 problems has a label of its own",
        ),
    ],
)
def test_columns_that_are_not_there_are_named(curriculum, columns, records, message):
    with pytest.raises(ValueError, match=message):
        known(records, curriculum, **columns)


@pytest.mark.contract
def test_it_goes_on_from_its_state_alone():
    """Two runs, one of them through plain NumPy arrays as a checkpoint keeps them."""

    def played(prompts, state, steps):
        found = []
        for step in steps:
            taken, state = prompts.take(state, step, 3)
            ids = [record["id"] for record in taken.records]
            found.append((ids, taken.visits.tolist()))
            state = prompts.observe(state, *outcomes(ids))
        return found, state

    whole, end = played(source(), source().first_state(), range(1, 7))
    first, state = played(source(), source().first_state(), range(1, 4))
    kept = {name: np.array(value) for name, value in state.items()}
    second, again = played(source(), kept, range(4, 7))
    assert whole == first + second
    assert all((end[name] == again[name]).all() for name in end)
    assert all(isinstance(value, np.ndarray | np.generic) for value in end.values())
    assert source().metrics(end)["curriculum/unseen_share"] == float((end["visits"] == 0).mean())


def outcomes(ids, samples=2):
    """Samples and scores of problems; those with an even number are solved."""
    shape = (len(ids), samples)
    mask = np.ones((*shape, 1), bool)
    rollouts = SimpleNamespace(
        tokens=np.ones((*shape, 1), np.int32),
        mask=mask,
        logprobs=np.zeros(mask.shape, np.float32),
        finished=np.ones(shape, bool),
    )
    right = np.repeat(np.array(ids) % 2 == 0, samples)
    none = np.zeros(right.shape, bool)
    scores = SimpleNamespace(total=right.astype(np.float32), correct=right, left_out=none)
    records = [{"id": one} for one in ids]
    return SimpleNamespace(records=records, rollouts=rollouts), scores


def test_weights_of_sources_are_numbers_of_the_config():
    stage = stage_of("grpo", {"curriculum": "mixture", "source_weights": (0.7, 0.3)})
    assert stage.objective.values["source_weights"] == (0.7, 0.3)
    with pytest.raises(ValueError, match="source_weights"):
        stage_of("grpo", {"curriculum": "mixture", "source_weights": ("a", "b")})


def test_what_no_verifier_judges_teaches_no_curriculum():
    rl = {"method": "jepo", "steps": 1, "objective": {"curriculum": "vade"}}
    with pytest.raises(ValueError, match="verifier='none' judges none"):
        validate(complete({"stages": ("rl",), "rl": rl}))
    rl["objective"]["curriculum"] = "pcl"
    with pytest.raises(ValueError, match="curriculum"):
        validate(complete({"stages": ("rl",), "rl": rl}))
    rl["objective"] = {"curriculum": "band", "difficulty_low": 2.0, "difficulty_high": 1.0}
    with pytest.raises(ValueError, match=r"difficulty_high .*config\.rl"):
        validate(complete({"stages": ("rl",), "rl": rl}))


FACTS = Problems(
    6,
    difficulty=np.array([1, 2, 3, 1, 2, 3], np.float32),
    angles=np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], np.float32),
    sources=np.array([0, 1, 0, 1, 0, 1], np.int32),
    source_names=("a", "b"),
)


@pytest.mark.parametrize("name", CURRICULA)
def test_both_loops_choose_the_same_problems(name):
    """Three calls of each, with the same outcomes in between."""
    fields = {"band": {"difficulty_high": 2.0}, "pcl": {"pool_factor": 2}}.get(name, {})
    curriculum, records = CURRICULA[name](**fields), [{"prompt": f"{n}="} for n in range(6)]
    advantages = None
    if name == "dump":
        advantages = lambda arrays: arrays["scores"][:, None] - 0.5 + 0 * arrays["mask"]  # noqa: E731
    host = CurriculumPrompts(records, FACTS, curriculum, STREAM, advantages)
    predict = (lambda index: np.asarray(index) / 6) if name == "pcl" else None
    stage = SimpleNamespace(batch=SimpleNamespace(prompts_per_step=3))
    device = ByCurriculum(curriculum, FACTS, stage, STREAM, predict)
    state, following = host.first_state(), device.first()
    for step in (1, 2, 2):
        taken, state = host.take(state, step, 3, predict)
        index, following = device.take(following, np.int32(step))
        ids = [record["id"] for record in taken.records]
        assert np.asarray(index).tolist() == ids
        state = host.observe(state, *outcomes(ids))
        seen = host.seen(*outcomes(ids))
        own = {key: value for key, value in following.items() if key != "calls"}
        following = {**curriculum.observe(own, FACTS, seen), "calls": following["calls"]}
    for key, value in following.items():
        np.testing.assert_array_equal(np.asarray(value), state[key])


def test_visits_count_repetitions_within_a_call():
    problems = Problems(2, sources=np.array([0, 0]), source_names=("a",))
    prompts = CurriculumPrompts(RECORDS[:2], problems, CURRICULA["mixture"](), STREAM)
    taken, state = prompts.take(prompts.first_state(), 1, 6)
    ids = np.array([record["id"] for record in taken.records])
    for one in (0, 1):
        assert taken.visits[ids == one].tolist() == list(range((ids == one).sum()))
    assert state["visits"].tolist() == np.bincount(ids, minlength=2).tolist()
    assert not prompts.observes


def stage_of(method, objective=None, **batch):
    whole = complete(
        {
            "stages": ("rl",),
            "rl": {"method": method, "steps": 1, "batch": batch, "objective": objective or {}},
        }
    )
    return validate(whole)[0]


def test_only_what_reads_values_has_them_computed():
    """PCL's critic of prompts has no clip, and no advantage reads it."""
    assert not reads_values(stage_of("pcl")) and reads_values(stage_of("ppo"))
    assert reads_values(stage_of("pcl", {"value_clip": 0.5}))
    assert reads_values(stage_of("vc_ppo", {"value_clip": None}))


def test_more_problems_than_there_are_are_refused():
    stage = stage_of("pcl", prompts_per_step=4)
    with pytest.raises(ValueError, match="16 candidates a step, and there are 15 problems"):
        check_count(Problems(15), CURRICULA["pcl"](), stage, 4)
    with pytest.raises(ValueError, match="prompts_per_step=4 is more than the 3 problems"):
        check_count(Problems(3), CURRICULA["vade"](), stage_of("vade"), 4)


@pytest.mark.parametrize(
    ("method", "objective", "message"),
    [
        ("grpo", {"curriculum": "pcl"}, "does not go with value_target='none'"),
        ("ppo", {"value_target": "prompt_mean"}, "reads values of every token"),
        ("vade", {"information": "entropy"}, r"config\.rl\.objective\.information"),
        ("reinforce", {"curriculum": "dump"}, "advantage='ema' reads 'baseline', which is made"),
        ("t_ppo", {"curriculum": "vade"}, "rollouts='windows' they come as slots are free"),
        ("greso", {"easy_reward": 0.1}, "hard_reward is 0.11; it must be < easy_reward"),
        ("pcl", {"allocation": "successive"}, "allocation='successive' does not go with curricu"),
        ("pcl", {"group_filter": "mixed"}, "group_filter='mixed' does not go with curriculum"),
        ("vade", {"answer_reward": "probability"}, "answer_reward='probability' does not go"),
        ("dump", {"kl_placement": "reward"}, "it must be 'none' or 'loss'"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(method, objective, message):
    with pytest.raises(ValueError, match=message):
        stage_of(method, objective)
