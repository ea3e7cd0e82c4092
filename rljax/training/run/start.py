"""The parameters that a run starts from: drawn, of another run, or of a published checkpoint.

With adapters nothing frozen is ever saved: a process makes it again from the same place. So that a
later run can start from adapters alone, each checkpoint's note says where its base came from.
"""

import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from jax import Array
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.runs import find_step
from rljax.models.config import ModelConfig
from rljax.models.frozen_base import quantised_in_parts, quantiser
from rljax.models.lora import flatten, split_frozen, unflatten, without_adapters
from rljax.models.network import Leaves, Network, Params
from rljax.models.pretrained import check_tensors, is_pretrained, load_params
from rljax.models.pretrained.config_json import fitting_family
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.run.checkpoints import (
    check_params,
    holds_adapters,
    read_note,
    restore_params,
    stored_params,
)


class Source(NamedTuple):
    """Where parameters come from."""

    init_from: str  # a folder; "": they are drawn
    seed: int  # of what is drawn

    @classmethod
    def of(cls, config: ConfigDict) -> "Source":
        """Where a run starts: an absolute path, of one step where it is another run's checkpoint.

        Raises:
            ValueError: if `init_from` is no checkpoint.
        """
        folder = config.model.init_from
        if folder and not is_pretrained(folder):
            folder = find_step(folder)
        return cls(str(Path(folder).absolute()) if folder else "", config.seed)

    @property
    def key(self) -> Array:
        """Draws parameters."""
        return purpose_key(self.seed, Purpose.PARAMETERS)


def export_note(section: ConfigDict, model: ModelConfig) -> list[str]:
    """One line, at the start of a run, if what it trains cannot leave as a published checkpoint.

    A converted checkpoint has the shape of its causal family and sees both ways: few families do.

    Args:
        section: `config.model`.
        model: the network.
    """
    if not section.convert:
        return []
    try:
        fitting_family(model)
    except ValueError as error:
        return [
            "launch/export.py will not be able to write this model, only this library's own "
            f"checkpoints hold it (config.model.convert={section.convert!r}): {error}"
        ]
    return []


def base_note(source: Source, network: Network) -> dict[str, Any]:
    """What a checkpoint's note says of its frozen base; {} where nothing is frozen."""
    if network.config.lora is None:
        return {}
    if source.init_from and not is_pretrained(source.init_from):
        where = find_step(source.init_from)
        if holds_adapters(where):
            return {"base": _base_of(where)._asdict()}
        source = source._replace(init_from=str(where))
    return {"base": source._asdict()}


def check_start(source: Source, network: Network) -> None:
    """Raises ValueError unless `init_from` holds parameters of this network, before any is read."""
    if not source.init_from:
        return
    if is_pretrained(source.init_from):
        return check_tensors(source.init_from, network)
    where = find_step(source.init_from)
    if not holds_adapters(where):
        check_params(where, with_stored_head(where, without_adapters(network)))
    elif network.config.lora is None:
        raise ValueError(
            f"The checkpoint {where} holds adapters on a frozen base, and this model has none: "
            "set the same adapters, or export the merged model and start from that "
            "(config.model.lora, config.model.init_from)."
        )
    else:
        check_params(where, with_stored_head(where, network))
        check_start(_base_of(where), without_adapters(network))


def load_start(source: Source, network: Network, mesh: Mesh) -> tuple[Params, Params]:
    """Makes or reads all parameters, in their sharding.

    A checkpoint with another head gives its trunk; the head is drawn.

    A base in int8 or nf4 is quantised matrix by matrix (all layers of one projection) as these are
    made or read: no more than one of them is on the devices in `param_dtype` at a time.

    Returns:
        (state, frozen), see models/lora.py; frozen matrices as `config.model.lora.base` says, {}
        without adapters.
    """
    if not source.init_from:
        draw = functools.partial(network.draw, source.key, mesh)
        return split_frozen(quantised_in_parts(network, mesh, draw))
    if is_pretrained(source.init_from):
        hold = quantiser(network, mesh)
        params = load_params(source.init_from, network, mesh, key=source.key, hold=hold)
        return split_frozen(params)
    where = find_step(source.init_from)
    if holds_adapters(where):
        _, frozen = load_start(_base_of(where), network, mesh)
        return load_trained(where, source.key, network, mesh), frozen
    read = functools.partial(_read_or_draw, where, source.key, network, mesh)
    return split_frozen(quantised_in_parts(network, mesh, read))


def load_trained(where: Path, key: Array, network: Network, mesh: Mesh) -> Params:
    """The parameters of a state, from a checkpoint of a network with this trunk.

    Args:
        where: the folder of one step; holds adapters exactly where the network has some.
        key: draws a head that the checkpoint does not hold.
        network: whose parameters.
        mesh: to place them on.

    Raises:
        ValueError: if the checkpoint is damaged or holds another trunk.
    """
    return unflatten(
        _read_or_draw(where, key, network, mesh, flatten(split_frozen(network.shapes)[0]))
    )


def with_stored_head(where: Path, network: Network) -> Network:
    """The network with the head that a checkpoint has, as far as its arrays tell."""
    stored, config = flatten(stored_params(where)), network.config
    if ("head",) not in stored:
        described = {"head": "language_model", "head_outputs": 1, "head_bias": False}
    else:
        described = {
            # All other heads have the same arrays.
            "head": "reward" if config.head == "language_model" else config.head,
            "head_outputs": stored[("head",)].shape[-1],
            "head_bias": ("head_bias",) in stored,
        }
    found = dataclasses.replace(config, **described)
    return network if found == config else Network.create(found)


def _read_or_draw(
    where: Path, key: Array, network: Network, mesh: Mesh, paths: Collection[tuple[str, ...]]
) -> Leaves:
    """Parameters of a checkpoint; what it does not hold, adapters and a head, is drawn."""
    bare = network if holds_adapters(where) else without_adapters(network)
    source = with_stored_head(where, bare)
    known = flatten(source.shapes)
    stored = [path for path in paths if path in known]
    read = restore_params(where, source, mesh, stored)
    return flatten(read) | network.draw(key, mesh, [path for path in paths if path not in known])


def _base_of(where: Path) -> Source:
    """Where the frozen base of a checkpoint of adapters came from."""
    note = read_note(where).get("base")
    if note is None:
        raise ValueError(
            f"The note of {where} does not say what base its adapters belong to: it was not "
            "written by a run with adapters (config.model.init_from)."
        )
    return Source(**note)
