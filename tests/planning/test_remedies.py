"""What would fit, tried with given sizes."""

import dataclasses

import pytest

from rljax.planning.chips import read_topology
from rljax.planning.remedies import changes, failing, remedy
from tests.planning.test_layouts import EVEN

GIB = 2**30
TOPOLOGY = read_topology("v5e:2x4")
PHASES = ("update", "sampling")


def plan(**sizes):
    phases = {
        name: {"bytes_per_chip": GIB * sizes.get(name, 1), "compiles": True} for name in PHASES
    }
    return {"phases": phases, "capacity_bytes": 16 * GIB, "workload": EVEN | {"remat": "none"}}


@dataclasses.dataclass
class Compiler:
    """Sizes of phases by a rule; notes what was asked."""

    size: object
    overrides: tuple = ()
    asked: list = dataclasses.field(default_factory=list)
    topology = TOPOLOGY

    def with_overrides(self, words):
        return dataclasses.replace(self, overrides=tuple(words))

    def describe(self):
        if "--config.model.remat=offload" in self.overrides:
            raise ValueError("no memory of a host")
        each = {"held": [], "side": "trainer", "waiting": 0}
        return {"resident": {"reference": GIB}, "programs": dict.fromkeys(PHASES, each)}

    def compile(self, name):
        self.asked.append((name, self.overrides))
        return {"bytes": self.size(name, self.overrides) * GIB}


def test_the_largest_phase_that_does_not_fit_comes_first():
    assert failing(plan(update=17, sampling=20)) == ["sampling", "update"]
    assert failing(plan(update=16)) == []
    refused = plan(update=3)
    refused["phases"]["update"]["compiles"] = False
    assert failing(refused) == ["update"]


def test_changes_of_one_thing_come_first_the_smallest_first():
    found = [each.words for each in changes(EVEN | {"remat": "none"}, TOPOLOGY, ["update"])]
    assert found[:4] == [
        ["--config.model.remat=dots"],
        ["--config.model.remat=full"],
        ["--config.model.remat=offload"],
        ["--config.mesh.data=1", "--config.mesh.fsdp=4", "--config.mesh.tensor=2"],
    ]
    assert len({tuple(words) for words in found}) == len(found)


def test_changes_of_the_sampler():
    found = [each.words for each in changes(EVEN, TOPOLOGY, ["sampling"])]
    assert found[:4] == [
        ["--config.sampler.cache=int8"],
        ["--config.sampler.weights=int8"],
        ["--config.sampler.slots=16"],
        ["--config.sampler.slots=8"],
    ]
    assert ["--config.sampler.mesh.data=-1", "--config.sampler.mesh.tensor=2"] in found
    assert not any("remat" in word for words in found for word in words)


def test_masked_diffusion_has_no_cache_and_no_slots():
    work = EVEN | {"denoising": {"passes": 4, "block": 2}}
    found = [each.words for each in changes(work, TOPOLOGY, ["sampling"])]
    assert found[0] == ["--config.sampler.weights=int8"]
    assert not any("cache" in word or "slots" in word for words in found for word in words)


def test_the_first_change_that_fits_is_the_answer():
    sizes = {"dots": 17, "full": 9}

    def size(name, words):
        return next((sizes[policy] for policy in sizes if any(policy in w for w in words)), 20)

    compiler = Compiler(size)
    found = remedy(compiler, plan(update=20), 6)
    assert found["overrides"] == ["--config.model.remat=full"]
    # What is held beside counts.
    assert found["bytes_per_chip"] == {"update": 10 * GIB}
    assert [each["fits"] for each in found["tries"]] == [False, True]
    assert [name for name, _ in compiler.asked] == ["update", "update"]


def test_tries_are_counted_and_what_is_refused_is_not():
    compiler, told = Compiler(lambda name, words: 20), []
    found = remedy(compiler, plan(update=18), 3, told=told.append)
    assert found["overrides"] is None and len(found["tries"]) == 3
    assert any("refused: no memory of a host" in line for line in told)


def test_a_change_must_make_every_phase_fit():
    compiler = Compiler(lambda name, words: 12 if name == "sampling" else 20)
    found = remedy(compiler, plan(update=18, sampling=19), 1)
    # Both are compiled, as the larger one fits.
    assert found["tries"][0]["bytes_per_chip"].keys() == {"sampling", "update"}
    assert found["overrides"] is None


@pytest.mark.parametrize("most", [1, 2])
def test_hopeless_changes_are_not_compiled(most):
    compiler = Compiler(lambda name, words: 20)
    assert remedy(compiler, plan(update=1000), most)["tries"] == []
    assert compiler.asked == []
