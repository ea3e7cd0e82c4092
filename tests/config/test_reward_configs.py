"""Every loss of reward models has its config, with an example of the rows that it reads."""

import pathlib
import runpy

import pytest

from rljax.config.load import load_config
from rljax.config.mesh import check_mesh
from rljax.config.validate import validate
from rljax.registry import METHODS

ROOT = pathlib.Path(__file__).parents[2]
FILE = ROOT / "configs/reward.py"
ENTRIES = runpy.run_path(str(FILE))["METHODS"]


def test_every_method_has_its_entry_in_order():
    names = [name for name, row in METHODS.items() if row.family == "reward"]
    assert names == list(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_it_loads_and_validates_whole_and_shortened(name):
    for argument in (name, f"{name},smoke"):
        config = load_config(f"{FILE}:{argument}")
        (stage,) = validate(config)
        assert stage.objective.method.name == name and config.name == f"reward-{name}"
        assert (ROOT / stage.data["path"]).is_file()
        check_mesh((stage,), 1, config.evaluation.prompts_per_batch)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="Unknown method 'dpo'.*here: bradley_terry, "):
        load_config(f"{FILE}:dpo")
