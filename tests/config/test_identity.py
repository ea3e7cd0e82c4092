"""When two configs are the same."""

from rljax.config.identity import config_hash, differing_fields, environment
from rljax.config.load import complete
from rljax.config.validate import resolved_dict, validate


def values(**changes):
    sparse = {"stages": ("s",), "s": {"method": "grpo"}, "seed": 0, **changes}
    config = complete(sparse)
    return resolved_dict(config, validate(config))


def test_the_hash_is_stable_and_sees_every_field():
    # Order does not matter, nor whether a default was spelled out.
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert config_hash({"a": 1}) == "015abd7f5cc5"
    base = config_hash(values())
    assert config_hash(values(evaluation={"samples_per_prompt": 8})) == base
    assert config_hash(values(s={"method": "grpo", "objective": {"clip_low": 0.2}})) == base
    others = [
        values(seed=1),
        values(model={"layers": 5}),
        values(s={"method": "dapo"}),
        values(s={"method": "grpo", "objective": {"clip_low": 0.3}}),
    ]
    assert len({base, *map(config_hash, others)}) == 5


def test_differing_fields_are_listed_with_both_values():
    old = {"seed": 0, "model": {"layers": 2, "width": 8}, "gone": 1}
    new = {"seed": 1, "model": {"layers": 2, "width": 16}, "tasks": [1]}
    assert differing_fields(old, new) == [
        "config.gone: 1 -> None",
        "config.model.width: 8 -> 16",
        "config.seed: 0 -> 1",
        "config.tasks: None -> [1]",
    ]
    assert differing_fields(old, old) == []


def test_the_environment_names_versions_and_devices():
    found = environment()
    assert {"rljax", "python", "jax", "orbax-checkpoint"} <= set(found["versions"])
    assert found["devices"] and all("cpu" in device for device in found["devices"])
