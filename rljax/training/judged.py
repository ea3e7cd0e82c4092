"""Evaluation alone: a checkpoint or a published model on the held-out problems of a config."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from rljax.config.decoding import Decoding, decoding_of
from rljax.config.load import apply_overrides, load_config
from rljax.config.runs import find_run, recorded_network
from rljax.config.schema_model import LORA, SHAPE
from rljax.config.validate import validate
from rljax.models.lora import combine
from rljax.models.network import Params
from rljax.models.pretrained import is_pretrained
from rljax.training.evaluation import Evaluator, Observer
from rljax.training.run.context import Context, build_context
from rljax.training.run.start import Source, load_start


def config_of_run(file: str, checkpoint: Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """A config whose model is a checkpoint of a run, with the tokenizer and the seed of that run.

    Args:
        file: FILE[:ARG] of the config.
        checkpoint: WORKDIR[/checkpoints/STAGE[/STEP]].
        overrides: words "--config.a.b=value"; the last to be applied.

    Raises:
        ValueError: if there is no such checkpoint, or the config is wrong.
    """
    step, run = find_run(checkpoint, "--checkpoint")
    config = _without_shape(load_config(file), str(step))
    config.seed = run["seed"]
    for name in config.tokenizer:
        if name in run["tokenizer"]:
            value = run["tokenizer"][name]
            config.tokenizer[name] = tuple(value) if isinstance(value, list) else value
    adapters = recorded_network(run, step).lora
    if adapters is not None:
        for name in LORA:
            config.model.lora[name] = getattr(adapters, name)
    return apply_overrides(config, overrides)


def config_of_model(file: str, folder: Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """A config whose model is a published one; arguments as for `config_of_run`."""
    if not is_pretrained(folder):
        raise ValueError(
            f"{folder} has no config.json that names a model_type: it is no Hugging Face folder "
            "(--model)."
        )
    return apply_overrides(_without_shape(load_config(file), str(folder)), overrides)


class Judged(NamedTuple):
    """A model that is evaluated."""

    context: Context
    decoding: Decoding
    params: Params


def judge(config: ConfigDict, observe: Observer | None = None, stage: str = "") -> dict[str, float]:
    """What training would report of a config's model.

    Args:
        config, stage: as for `opened`.
        observe: as for `Evaluator`.
    """
    with opened(config, stage) as (context, decoding, params):
        return Evaluator(context, decoding, observe)(params)


@contextlib.contextmanager
def opened(config: ConfigDict, stage: str = "") -> Iterator[Judged]:
    """A config's model, ready to answer its held-out problems; its mesh is set inside.

    Args:
        config: complete; its held-out problems, rewards and evaluation settings are used.
        stage: after which the model is judged, as held-out problems are decoded as it samples; by
            default, and where the config has no such stage, the first one.

    Raises:
        ValueError: for a wrong config, or a model that generates nothing.
    """
    context = build_context(config, validate(config), Path(), trains=False)
    head = context.network.config.head
    if head != "language_model":
        raise ValueError(
            f"{config.model.init_from} is a model with a {head} head: evaluation needs a language "
            "model (--checkpoint, --model)."
        )
    with context.workers(), jax.set_mesh(context.mesh):
        names = [each.name for each in context.stages]
        index = names.index(stage) if stage in names else 0
        decoding = decoding_of(config.evaluation, context.stages, index)
        params = combine(*load_start(Source.of(config), context.network, context.mesh))
        yield Judged(context, decoding, params)


def _without_shape(config: ConfigDict, folder: str) -> ConfigDict:
    """The config with a folder's model; what it says of another shape is left out."""
    model = config.model
    model.init_from, model.preset = folder, ""
    for name in SHAPE:
        if name == "rope_scaling":
            model.rope_scaling = {key: None for key in model.rope_scaling} | {"kind": ""}
        else:
            model[name] = None
    model.lora.rank = 0
    return config
