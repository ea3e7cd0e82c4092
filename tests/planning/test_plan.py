"""Plans put together from given costs, and the errors of the command."""

import importlib.util
from pathlib import Path

import pytest

from rljax.planning import compiling, plan
from rljax.planning.chips import read_topology

ROOT = Path(__file__).parents[2]
GIB = 2**30
COSTS = {
    "arguments": 4 * GIB,
    "outputs": 0,
    "temporaries": 2 * GIB,
    "code": 0,
    "bytes": 6 * GIB,
    "too_large": False,
    "flops": 197e12,
    "hbm_bytes": 8.1e11 / 2,
    "cycles": 0,
    "collectives": [],
    "kernels": {},
    "endless": [],
    "compile_seconds": 1.0,
    "cached": False,
}


class Compiler:
    """Gives costs without compiling."""

    config, overrides, topology = "a.py", (), read_topology("v5e:2x2")

    def __init__(self, split=None, **costs):
        self.split, self.costs = split, costs

    def describe(self):
        each = {
            "times": 1,
            "held": ["parameters"],
            "side": "trainer",
            "waiting": 0,
            "mesh": {"fsdp": 4},
            "places": [[x, y, 0] for x in range(2) for y in range(2)],
            "slices": [0, 0, 0, 0],
            "topology": "v5e:2x2",
        }
        programs = {name: dict(each) for name in self.costs}
        programs["update"]["times"] = 3
        if self.split:
            half = {"mesh": {"fsdp": 2}, "places": [[0, 0, 0], [1, 0, 0]]}
            programs = {name: program | half for name, program in programs.items()}
            programs["sampling"] |= {"side": "sampler", "waiting": GIB}
        return {
            "stage": "grpo",
            "method": "grpo",
            "stages": ["warmup", "grpo"],
            "mesh": {"fsdp": 4},
            "workload": {},
            "split": self.split,
            "parameters": 10**9,
            "resident": {"parameters": GIB, "optimizer": 8 * GIB},
            "programs": programs,
            "useful": {"update": 4 * 98.5e12},
            "tokens": 1000.0,
        }

    def compile(self, name):
        return COSTS | self.costs[name]


def test_phases_add_up_to_a_step():
    made = plan.make_plan(Compiler(update={}, load={"flops": 0.0}), price=2.0)
    # Three updates of a second each, and one load of half a second.
    assert made["step_seconds"] == 3.5
    assert made["phases"]["update"]["dominating"] == "compute"
    assert made["phases"]["load"]["dominating"] == "memory"
    assert made["phases"]["update"]["mfu"] == 0.5
    assert made["mfu"] == pytest.approx(3 * 98.5e12 / 197e12 / 3.5)
    assert made["tokens_per_second"] == pytest.approx(1000 / 3.5)
    assert made["cost_per_1000_steps"] == pytest.approx(1000 * 3.5 / 3600 * 4 * 2.0)


def test_what_is_held_beside_a_program_counts_against_the_chip():
    made = plan.make_plan(Compiler(update={}))
    assert made["phases"]["update"]["beside"] == {"optimizer": 8 * GIB}
    assert (made["bytes_per_chip"], made["fits"]) == (14 * GIB, True)
    made = plan.make_plan(Compiler(update={"bytes": 9 * GIB}))
    assert (made["bytes_per_chip"], made["fits"]) == (17 * GIB, False)
    assert made["capacity_bytes"] == 16 * GIB


def test_a_program_that_the_compiler_refuses_does_not_fit():
    refused = {"bytes": 20.5 * GIB, "too_large": True}
    made = plan.make_plan(Compiler(update=refused, load={}))
    assert not made["fits"] and made["step_seconds"] is None
    assert made["largest_phase"] == "update"


def test_a_sampler_on_chips_of_its_own_runs_beside_the_trainer():
    split = {"trainer_devices": 2, "sampler_devices": 2, "bytes": 5e11, "links": 2}
    made = plan.make_plan(Compiler(split, update={}, load={"flops": 0.0}, sampling={}))
    # Three updates of a second and half a second of loading; sampling takes one; 5e11 bytes pass
    # two links of 5e10 bytes a second in 5 seconds.
    assert made["sides"] == {"trainer": 3.5, "sampler": 1.0, "transfer": 5.0, "step_seconds": 5.0}
    assert made["step_seconds"] == made["step_seconds_ahead"] == 5.0
    # The sampler holds its next weights beside those in use, and nothing of the trainer's.
    assert made["phases"]["sampling"]["beside"] == {"next weights": GIB}
    # An update's operations are of the two chips that train, a step's of all four.
    assert made["phases"]["update"]["mfu"] == 1.0
    assert made["mfu"] == pytest.approx(3 * 98.5e12 / 197e12 / 5)


@pytest.fixture
def command(capsys):
    spec = importlib.util.spec_from_file_location("plan_command", ROOT / "launch/plan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*words):
        status = module.main(list(words))
        return status, capsys.readouterr().err

    return call


QUICKSTART = f"--config={ROOT / 'configs/quickstart.py'}"


def test_bad_input_is_one_line_before_anything_compiles(command, monkeypatch):
    status, said = command(QUICKSTART, "--topology=v5e:4x5")
    assert status == 1 and "nearest: v5e:4x4" in said and said.count("\n") == 1
    status, said = command(QUICKSTART, "--topology=v5w:4x4")
    assert status == 1 and "known: 'v4', 'v5e', 'v5p', 'v6e'" in said
    status, said = command(QUICKSTART)
    assert status == 1 and "names no TOPOLOGY" in said
    status, said = command("--config=nowhere.py")
    assert status == 1 and "No config file 'nowhere.py'" in said
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    status, said = command(QUICKSTART, "--topology=v5e:4x4")
    assert status == 1 and "pip install 'rljax[plan]'" in said


def test_a_mesh_that_does_not_divide_the_slice_is_an_error(command, tmp_path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (extra plan)")
    words = (QUICKSTART, "--topology=v5e:4x4", "--config.mesh.fsdp=3", f"--cache={tmp_path}")
    status, said = command(*words)
    assert status == 1 and "does not divide 16 devices" in said
    assert not list(tmp_path.iterdir())


def test_a_batch_that_does_not_divide_over_the_chips_is_an_error(command, tmp_path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (extra plan)")
    status, said = command(QUICKSTART, "--topology=v5e:8x8", f"--cache={tmp_path}")
    assert status == 1 and said.count("\n") == 1
    assert (
        "do not divide over the 64 shards of rows" in said
        and "warmup.batch.sequences_per_micro_batch" in said
    )


def test_flags_of_the_command(command):
    status, said = command(QUICKSTART, "--topology=v5e:4x4", "--search=0")
    assert status == 1 and ">= 1" in said and "(--search)" in said
    status, said = command(QUICKSTART, "--topology=v5e:4x4", "--ahead=-1")
    assert status == 1 and "(--ahead)" in said
    status, said = command(QUICKSTART, "--topology=v5e:4x4", "--serch=2")
    assert status == 1 and "'--search'" in said
