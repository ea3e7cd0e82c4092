"""The search and the splits, with plans that are given."""

import dataclasses

import pytest

from rljax.planning import search, splits
from rljax.planning.chips import read_topology
from rljax.planning.choices import ahead_lines, remedy_lines, search_lines
from tests.planning.test_layouts import EVEN

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Compiler:
    """A run of which only the overrides are known."""

    overrides: tuple = ()
    topology = read_topology("v5e:2x4")

    def with_overrides(self, words):
        return dataclasses.replace(self, overrides=tuple(words))


def plan(seconds=1.0, fits=True, size=8, split=None, phases=(), **work):
    return {
        "chips": 8,
        "fits": fits,
        "bytes_per_chip": size * GIB,
        "step_seconds": seconds,
        "mfu": 0.5,
        "mesh": {"fsdp": 8},
        "split": split,
        "sides": None,
        "workload": EVEN | work,
        "phases": dict(phases),
    }


@pytest.fixture
def plans(monkeypatch):
    """Plans by a rule of the overrides; what was asked."""

    def use(module, rule):
        asked = []

        def make(compiler, *, told):
            asked.append(compiler.overrides)
            return rule(compiler.overrides)

        monkeypatch.setattr(module, "make_plan", make)
        return asked

    return use


def test_the_fastest_that_fits_is_first_and_the_config_is_among_them(plans):
    seconds = iter([0.5, 3.0, 0.1])
    fits = iter([True, True, False])
    asked = plans(search, lambda words: plan(next(seconds), next(fits)))
    rows = search.search(Compiler(), plan(1.0), 3)
    assert len(asked) == 3
    assert [row["step_seconds"] for row in rows] == [0.5, 1.0, 3.0, 0.1]
    assert rows[1]["overrides"] == [] and rows[0]["overrides"] == list(asked[0])


def test_what_is_refused_is_not_counted(plans):
    answers = iter([ValueError("no"), plan(), plan()])

    def rule(words):
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    asked = plans(search, rule)
    assert len(search.search(Compiler(), plan(), 2)) == 3 and len(asked) == 3


def test_a_mesh_that_fits_is_not_tried_in_a_slower_way(plans):
    asked = plans(search, lambda words: plan())
    search.search(Compiler(), plan(), 50)
    meshes = [tuple(word for word in words if "config.mesh" in word) for words in asked]
    assert len(meshes) == len(set(meshes)) > 2


def test_pairs_in_the_same_order():
    rows = [
        {"step_seconds": compiled, "estimated_step_seconds": guessed}
        for compiled, guessed in ((1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (None, 1.0))
    ]
    assert search.agreement(rows) == (2, 3)


PHASES = {"sampling": {"seconds": 3.0}, "update": {"seconds": 1.0}}


def test_a_split_is_estimated_from_the_phases_on_all_chips():
    found = splits.both_ways(Compiler(), plan(4.0, phases=PHASES), 0)
    # Half of the chips sample for twice as long; nothing else divides eight chips.
    assert found["step_seconds_synchronous"] == 4.0 and found["step_seconds_ahead"] == 6.0
    assert found["ahead"]["sampler_devices"] == 4 and found["ahead"]["how"] == "estimated"
    lines = list(ahead_lines(plan(4.0) | found))
    assert "in turn on 8 chips: 4 s" in lines[0] and "on 4 of 8 chips: 6 s" in lines[1]


def test_a_split_that_is_compiled_takes_the_place_of_the_estimate(plans):
    split = {"sampler_devices": 4, "trainer": "a", "sampler": "b", "bytes": 1e9, "links": 2}
    sides = {"trainer": 1.0, "sampler": 2.5, "transfer": 0.1}
    asked = plans(splits, lambda words: plan(2.5, split=split) | {"sides": sides})
    found = splits.both_ways(Compiler(), plan(4.0, phases=PHASES), 1)
    assert "--config.asynchronous.sampler_devices=4" in asked[0]
    assert (found["step_seconds_synchronous"], found["step_seconds_ahead"]) == (4.0, 2.5)
    lines = list(ahead_lines(plan(4.0) | found))
    assert "compiled for both parts" in lines[1] and "1 GB of weights over 2 links" in lines[2]
    assert "sampler 2.5 s" in lines[3]


def test_a_run_on_split_chips_is_compared_with_all_in_turn(plans):
    split = {"sampler_devices": 4, "trainer": "a", "sampler": "b", "bytes": 1e9, "links": 2}
    asked = plans(splits, lambda words: plan(4.0))
    found = splits.both_ways(Compiler(), plan(2.5, split=split, sampler_devices=4), 1)
    assert "--config.asynchronous.sampler_devices=0" in asked[0]
    assert (found["step_seconds_synchronous"], found["step_seconds_ahead"]) == (4.0, 2.5)


def test_what_samples_nothing_has_no_split():
    found = splits.both_ways(Compiler(), plan(ahead=False), 2)
    assert found == {
        "step_seconds_synchronous": 1.0,
        "step_seconds_ahead": None,
        "ahead": None,
    }
    assert list(ahead_lines(plan() | found)) == []


def test_sentences_of_a_search_and_of_a_remedy():
    rows = [
        search.row_of(words, plan(), _judged()) for words in (["--config.model.remat=dots"], [])
    ]
    said = list(search_lines(plan() | {"search": rows}))
    assert said[0] == "best: --config.model.remat=dots" and "max_staleness=0" in said[1]
    tried = {"overrides": ["--a=1"], "bytes_per_chip": {"update": GIB}, "fits": False}
    remedy = {"overrides": None, "tries": [tried]}
    said = list(remedy_lines(plan() | {"remedy": remedy}))
    assert said[0] == "tried: --a=1: update 1.00 GiB" and "in 1 tries" in said[1]


def _judged():
    return next(iter(search.judged(EVEN, Compiler.topology)))
