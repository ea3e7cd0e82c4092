"""A config with anything wrong in it ends with a ValueError, or can be saved and read again."""

import copy
import json
import random
from pathlib import Path

import pytest

from rljax.config.load import complete, load_config
from rljax.config.model import resolve_model
from rljax.config.validate import plain, resolved_dict, validate
from rljax.training.update.optimizers import build_optimizer

ROOT = Path(__file__).parents[2]

# Values of every type and size; "name" and "lora" are words that mean something somewhere.
ODD = (
    *(None, True, "", "name", "zzz", "\0", "\ud83d", "a" * 5000, b"x", object(), {3}, 1j, range(3)),
    *(-1, 0, 1, 2, 3, 2**31, 2**32, 2**63, -(2**63), 10**400, 10**5000, len),
    *(0.5, 1.0, -1.0, 1.5, 3e38, 1e308, 1e-300, float("inf"), float("-inf"), float("nan")),
    *(
        (),
        (None,),
        (1,),
        ("a",),
        (5,),
        (float("nan"),),
        ((1, 2),),
        ((1, 2.0), (1, 3.0)),
        [1],
        (2, 3),
    ),
    *({}, {"a": 1}, {1: 2}, {"name": 5}, ({"name": 5},), ({"name": "x", "options": 5},), ({},)),
)
NESTED: list = []
for _ in range(2000):
    NESTED = [NESTED]


def places(section, before=()):
    """Paths of all sections and fields."""
    for name, value in section.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from places(value, (*before, name))


def corrupted(config: dict, path, value) -> dict:
    """A copy with another value at a path."""
    made = copy.deepcopy(config)
    section = made
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    return made


def outcome(sparse: dict) -> str | None:
    """The error; None for a config that is accepted, which then survives being saved."""
    try:
        config = complete(sparse)
        stages = validate(config)
    except ValueError as error:
        return str(error)
    resolved = resolved_dict(config, stages)
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
    again = complete(json.loads(json.dumps(plain(config.to_dict()))))
    assert resolved_dict(again, validate(again)) == resolved
    try:
        resolve_model(config.model, 261)
        for stage in stages:
            build_optimizer(stage)
    except ValueError as error:
        assert "config." in str(error)
    return None


@pytest.mark.parametrize("name", ["quickstart", "quickstart_dpo", "quickstart_rlhf", "evolution"])
def test_whatever_is_wrong_is_said(name):
    config = load_config(f"{ROOT}/configs/{name}.py").to_dict()
    generator, paths = random.Random(name), list(places(config))
    accepted = 0
    for _ in range(200):
        path, value = generator.choice(paths), generator.choice([*ODD, NESTED])
        message = outcome(corrupted(config, path, value))
        accepted += message is None
        if message is not None:
            assert path[-1] in message or "stages" in message or "source" in path, (path, message)
            assert "\n" not in message and len(message) < 4000
    assert 0 < accepted < 100


@pytest.mark.parametrize("name", ["quickstart", "quickstart_rlhf"])
def test_numbers_in_numbers(name):
    """Right types and odd sizes are what a slip of the keys gives."""
    config = load_config(f"{ROOT}/configs/{name}.py").to_dict()
    generator = random.Random(name)
    numbers = [path for path in places(config) if type(value_of(config, path)) in (int, float)]
    odd = [value for value in ODD if type(value) in (int, float)]
    outcomes = [
        outcome(corrupted(config, generator.choice(numbers), generator.choice(odd)))
        for _ in range(150)
    ]
    assert None in outcomes and any(outcomes)


def value_of(config, path):
    for name in path:
        config = config[name]
    return config
