"""A model with its tokenizer and templates, outside of any run: of a checkpoint, or published."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from rljax.config.runs import find_run, recorded_network
from rljax.config.schema import TOKENIZER
from rljax.data.text_format import TextFormat
from rljax.models.lora import combine
from rljax.models.network import Network, Params
from rljax.models.peft_format import load_adapters, read_adapter_config
from rljax.models.pretrained import is_pretrained, read_config
from rljax.training.run.start import Source, check_start, load_start
from rljax.training.run.text_format import make_text_format

Talk = Mapping[str, Any]


class Model(NamedTuple):
    """A network with its parameters, and how it reads texts."""

    network: Network
    params: Params
    text_format: TextFormat


def load_folder(folder: Path, tokenizer: str, dtype: str, mesh: Mesh, flag: str) -> Model:
    """A model of either kind; arguments as for `load_published` and `load_run`."""
    if is_pretrained(folder):
        return load_published(folder, tokenizer, dtype, None, mesh, {}, flag)
    return load_run(folder, tokenizer, mesh, {}, flag)


def load_run(
    checkpoint: Path, tokenizer: str, mesh: Mesh, talk: Talk, flag: str = "--checkpoint"
) -> Model:
    """The model of a run, as it was trained: tokenizer, template and bos included.

    Args:
        checkpoint: WORKDIR[/checkpoints/STAGE[/STEP]].
        tokenizer: to be used instead of the run's; "": the run's.
        mesh: to place the parameters on.
        talk: what config.data says otherwise: chat and system_prompt.
        flag: that names the checkpoint, for errors.

    Raises:
        ValueError: if there is no such run or checkpoint.
    """
    step, config = find_run(checkpoint, flag)
    network = Network.create(recorded_network(config, step))
    return Model(
        network=network,
        params=_params(Source(str(step), config["seed"]), network, mesh),
        text_format=make_text_format({**config, "data": config["data"] | talk}, tokenizer),
    )


def load_published(
    folder: Path,
    tokenizer: str,
    dtype: str,
    adapters: Path | None,
    mesh: Mesh,
    talk: Talk,
    flag: str = "--model",
) -> Model:
    """A published model.

    Args:
        folder: as the hub has it.
        tokenizer: to be used instead of the folder's; "": the folder's.
        dtype: of parameters and activations.
        adapters: of the folder's model, as PEFT writes them.
        mesh: to place the parameters on.
        talk: as for `load_run`.
        flag: that names the folder, for errors.

    Raises:
        ValueError: if the folder holds no model, or the adapters are not those of such a model.
    """
    if not is_pretrained(folder):
        raise ValueError(
            f"{folder} has no config.json that names a model_type: it is no Hugging Face folder "
            f"({flag})"
        )
    lora = None if adapters is None else read_adapter_config(adapters)
    network = Network.create(read_config(folder, dtype=dtype, param_dtype=dtype, lora=lora))
    section = {name: field.default for name, field in TOKENIZER.items()}
    section["path"] = tokenizer or str(folder)
    data = {"chat": False, "system_prompt": "", **talk}
    text_format = make_text_format(
        {"tokenizer": section, "data": data, "model": {"init_from": str(folder)}}
    )
    params = _params(Source(str(folder), 0), network, mesh)
    if adapters is not None:
        params = load_adapters(adapters, network, params, mesh)
    return Model(network=network, params=params, text_format=text_format)


def _params(source: Source, network: Network, mesh: Mesh) -> Params:
    network.config.check_mesh(dict(mesh.shape))
    check_start(source, network)
    with jax.set_mesh(mesh):
        return combine(*load_start(source, network, mesh))
