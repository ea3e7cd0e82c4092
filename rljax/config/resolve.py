"""One stage of a config with every value filled in: the method's row, the family's defaults."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.batch import batch_sizes
from rljax.config.checks import check_combinations
from rljax.config.graph import given_models
from rljax.config.stage import Stage
from rljax.registry import Objective, Reads, resolve_objective
from rljax.registry.objective import options
from rljax.sampling.distribution import EntropyTemperature, TokenFilter

# Fields of `sampling` that say what tokens are drawn from.
FILTER_FIELDS = tuple(field.name for field in dataclasses.fields(TokenFilter))


def resolve_stage(name: str, section: ConfigDict) -> Stage:
    """Resolves one stage.

    Args:
        name: of the stage.
        section: its section of the config, complete (config/load.py).

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    where = f"config.{name}"
    objective = resolve_objective(section.method, section.objective.to_dict(), where)
    allowed = what_is_read(objective, section.data.source)
    parts = ("batch", "sampling", "data", "critic")
    values = {
        part: _values(section[part], getattr(allowed, part), objective, f"{where}.{part}")
        for part in parts
    }
    top = _values({"reference_kl": section.reference_kl}, allowed.stage, objective, where)
    stage = Stage(
        name=name,
        objective=objective,
        steps=section.steps,
        reference_kl=top.get("reference_kl", False),
        batch=batch_sizes(values["batch"], objective, f"{where}.batch"),
        token_filter=_token_filter(values["sampling"]),
        max_new_tokens=values["sampling"].get("max_new_tokens", 0),
        stop_strings=tuple(values["sampling"].get("stop_strings", ())),
        data=values["data"],
        critic=values["critic"],
        start_from=section.start_from,
        network={"head": section.network.head} if section.network.head else {},
        models=given_models(section.models, f"{where}.models"),
        optimizer={
            key: value for key, value in section.optimizer.to_dict().items() if value is not None
        },
    )
    check_combinations(stage, where)
    return stage


def what_is_read(objective: Objective, source: str | None) -> Reads:
    """The fields that a stage reads besides its objective: its family's, and what options add.

    Args:
        objective: of the stage.
        source: `data.source`, where the config says one.
    """
    record = objective.description
    reads, source = record.reads, source or record.reads.data.get("source")
    for chosen in options(objective.choices):
        reads |= record.adds.get(chosen, Reads())
    return reads | record.sources.get(source, Reads())


def _values(
    section: Any, allowed: Mapping[str, Any], objective: Objective, where: str
) -> dict[str, Any]:
    """Defaults plus what the section sets, which must be what the stage reads."""
    given = {key: section[key] for key in section if section[key] is not None}
    for key, value in given.items():
        if key not in allowed:
            raise ValueError(
                f"{where}.{key}={value!r} is never read by method {objective.method.name!r}; "
                f"fields of this section that are: {', '.join(sorted(allowed)) or 'none'} "
                f"({where}.{key})."
            )
    return {**allowed, **given}


def bias_pairs(given: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """A `logit_bias` of a config as a `TokenFilter` holds it."""
    return tuple((int(token), float(add)) for token, add in given)


def _token_filter(sampling: Mapping[str, Any]) -> TokenFilter:
    """What a stage samples from, and what its log-probabilities are taken under."""
    fields = {name: sampling[name] for name in FILTER_FIELDS if name in sampling}
    if "logit_bias" in fields:
        fields["logit_bias"] = bias_pairs(fields["logit_bias"])
    if "forbidden_tokens" in fields:
        fields["forbidden_tokens"] = tuple(fields["forbidden_tokens"])
    theta = sampling.get("entropy_theta")
    rule = EntropyTemperature(theta=theta) if theta else None
    return TokenFilter(**fields, entropy_temperature=rule)
