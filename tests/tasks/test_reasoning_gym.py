import json
import subprocess
import sys
from pathlib import Path

import pytest

from rljax.tasks import reasoning_gym as gym
from rljax.tasks.reasoning_gym import ReasoningGym, splits

CHAIN = {"name": "chain_sum", "parameters": {"max_terms": 3, "max_digits": 1}}
TESTS = Path(__file__).parents[1]
SHARED = TESTS.parents[1] / "shared" / "golden"
GOLDEN = (SHARED if SHARED.is_dir() else TESTS / "golden") / "reasoning-gym.json"

# The package gives these no gold answer: only their metadata can be scored.
NO_GOLD = ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
# Slow to generate, or needing several seconds of set-up; they work the same way.
SLOW = ("advanced_geometry", "arc_agi", "codeio", "knight_swap", "zebra_puzzles")


def test_every_task_scores_its_gold_answer_one_after_a_trip_through_json():
    from reasoning_gym.factory import DATASETS

    for name in sorted(set(DATASETS) - set(gym.REFUSED) - set(NO_GOLD) - set(SLOW)):
        problem = ReasoningGym(name, seed=11, size=2)[1]
        reference = json.loads(json.dumps(problem.reference))
        assert gym.score(reference["answer"], reference) == 1.0, name
        assert gym.from_json(reference["entry"])["answer"] == reference["answer"], name


def test_json_encoding_is_lossless():
    value = {"a": (1, [2.5, (None, True)]), "b": {1: "x", (2, 3): []}}
    assert gym.from_json(json.loads(json.dumps(gym.to_json(value)))) == value


def test_items_are_the_packages_own_and_do_not_depend_on_access_order():
    import reasoning_gym

    problems = ReasoningGym(CHAIN, seed=40, size=6, prompt_pattern=r": (.*) =$")
    theirs = reasoning_gym.create_dataset("chain_sum", seed=40, size=6, max_terms=3, max_digits=1)
    backwards = [problems[i] for i in reversed(range(6))]
    for index, problem in enumerate(reversed(backwards)):
        assert problem == problems[index] and problem.id == index
        assert problem.prompt == theirs[index]["metadata"]["expression"]
        assert problem.reference["answer"] == theirs[index]["answer"]
    assert problems[-1] == problems[5]
    with pytest.raises(IndexError):
        problems[6]


def test_mixture_follows_the_weights_and_keeps_each_members_pattern():
    tasks = [
        {**CHAIN, "weight": 3, "prompt_pattern": r": (.*) =$"},
        {"name": "spell_backward", "weight": 1, "prompt_pattern": r": (\w+)$"},
    ]
    problems = list(ReasoningGym(tasks, seed=5, size=800))
    share = sum(p.reference["task"] == "chain_sum" for p in problems) / 800
    assert abs(share - 0.75) < 0.05
    assert all(p.prompt.isalpha() for p in problems if p.reference["task"] == "spell_backward")
    assert problems[17] == ReasoningGym(tasks, seed=5, size=800)[17]


def test_splits_share_no_prompt_even_when_the_task_repeats_itself():
    tiny = {"name": "chain_sum", "parameters": {"max_terms": 2, "max_digits": 1}}  # 200 problems
    train, heldout = splits(
        tiny, train_seed=0, heldout_seed=10_000, train_size=300, heldout_size=60
    )
    plain = ReasoningGym(tiny, seed=0, size=300)
    assert plain.prompts() & heldout.prompts(), "the test needs a task that collides"
    assert not train.prompts() & heldout.prompts()
    same = [train[i] == plain[i] for i in range(300) if plain[i].prompt not in heldout.prompts()]
    assert all(same)
    assert [p.id for p in train] == list(range(300))


def test_splits_refuse_overlapping_seeds_on_either_side():
    with pytest.raises(ValueError, match="seeds 0..99 and held-out items 99..103.*train_seed"):
        splits(CHAIN, train_seed=0, heldout_seed=99, train_size=100, heldout_size=5)
    with pytest.raises(ValueError, match="overlap"):
        splits(CHAIN, train_seed=4, heldout_seed=0, train_size=100, heldout_size=5)
    splits(CHAIN, train_seed=0, heldout_seed=100, train_size=100, heldout_size=5)


def test_a_task_that_the_heldout_set_exhausts_is_an_error():
    tiny = {"name": "count_bits", "parameters": {"max_n": 3}}
    everything = ReasoningGym(tiny, seed=0, size=100).prompts()
    with pytest.raises(ValueError, match="too few different problems"):
        ReasoningGym(tiny, seed=500, size=4, heldout_prompts=everything)[0]


@pytest.mark.parametrize(
    "tasks, message",
    [
        ("chain_sums", "Unknown task 'chain_sums'.*config.data.tasks.*mean 'chain_sum'"),
        ("game_of_life_halting", "refused: its scorer gives 1.0 to any non-empty text"),
        (
            {"name": "chain_sum", "parameters": {"max_term": 3}},
            "Unknown parameter of task 'chain_sum' 'max_term'; known: .*'max_terms'.*Did you mean",
        ),
        ({"name": "chain_sum", "parameters": {"seed": 3}}, "Unknown parameter"),
        ({"name": "chain_sum", "parameters": {"max_terms": 1}}, "max_terms must be >= min_terms"),
        ({"name": "chain_sum", "wieght": 1}, "Unknown task field 'wieght'.*mean 'weight'"),
        ({"name": "chain_sum", "weight": 0}, "weight > 0"),
        ({"name": "chain_sum", "prompt_pattern": "no group"}, "needs a group"),
        ({"name": "chain_sum", "prompt_pattern": "("}, "no regular expression"),
        ({"weight": 1}, "needs a name"),
        ([], "No task given"),
    ],
)
def test_bad_tasks_are_one_error(tasks, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        ReasoningGym(tasks, seed=0, size=4)


def test_a_pattern_that_does_not_match_names_the_question():
    with pytest.raises(ValueError, match="does not match a question of task 'chain_sum'"):
        ReasoningGym(CHAIN, seed=0, size=4, prompt_pattern="(nothing like it)")[0]
    with pytest.raises(ValueError, match="at least one problem"):
        ReasoningGym(CHAIN, seed=0, size=0)


def test_an_answer_that_breaks_the_packages_scorer_is_wrong_not_an_error():
    reference = ReasoningGym("prime_factorization", seed=0, size=1)[0].reference
    assert gym.score("zzz", reference) == 0.0
    assert gym.score(reference["answer"], reference) == 1.0
    with pytest.raises(ValueError):  # without a gold answer nothing tells who is at fault
        gym.score("zzz", {**reference, "answer": None})


def test_a_broken_scorer_is_an_error_not_a_wrong_answer(monkeypatch):
    reference = ReasoningGym("chain_sum", seed=0, size=1)[0].reference
    asked = []

    class Broken:
        def score_answer(self, answer, entry):
            asked.append(answer)
            raise RuntimeError("the scorer is broken")

    monkeypatch.setattr(gym, "_scorer", lambda name, parameters: Broken())
    with pytest.raises(RuntimeError, match="the scorer is broken"):
        gym.score("7", reference)
    assert asked == ["7", reference["answer"]]


def test_a_damaged_entry_is_an_error_not_a_wrong_answer():
    # The scorer reads the number to factorise from the entry: without it no text can be right.
    reference = ReasoningGym("prime_factorization", seed=0, size=1)[0].reference
    with pytest.raises(KeyError):
        gym.score("2 × 2", {**reference, "entry": {}})


def test_scoring_uses_the_tasks_own_parameters():
    # decimal_arithmetic compares as many decimals as its parameters say.
    parameters = {"min_num_decimal_places": 6, "max_num_decimal_places": 6}
    reference = ReasoningGym(
        {"name": "decimal_arithmetic", "parameters": parameters}, seed=0, size=1
    )[0].reference
    near = str(float(reference["answer"]) + 2e-5)
    assert gym.score(near, reference) < 1.0
    assert gym.score(near, {**reference, "parameters": {}}) == 1.0


def test_golden_scores_of_the_package():
    checked = 0
    for case in json.loads(GOLDEN.read_text())["cases"]:
        if "items" not in case["outputs"]:
            continue
        name = case["name"].removesuffix("_seed3")
        inputs = case["inputs"]
        task = {"name": name, "parameters": inputs["kwargs"]}
        problems = ReasoningGym(task, seed=inputs["seed"], size=inputs["size"])
        for problem, item in zip(problems, case["outputs"]["items"], strict=True):
            assert problem.prompt == item["question"]
            for answer, expected in item["candidates_scores"]:
                if isinstance(expected, int | float):
                    assert gym.score(answer, problem.reference) == pytest.approx(expected), name
                    checked += 1
    assert checked > 300


def test_the_room_never_imports_jax():
    code = (
        "import sys; import rljax.tasks.reasoning_gym as g; import rljax.rewards.pool; "
        "g.ReasoningGym('gcd', seed=0, size=1)[0]; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
