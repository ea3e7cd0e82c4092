"""The tokenizer, chat template, beginnings and ends of a run, from its config."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rljax.config.runs import find_step, run_config
from rljax.data.chat import make_template, template_options
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import holds_tokenizer, load_tokenizer
from rljax.models.pretrained import is_pretrained, stop_token_ids


def settle_tokenizer(config: ConfigDict) -> ConfigDict:
    """The config with the tokenizer that it leaves open: that of the model which it starts from.

    Raises:
        ValueError: for a published model without a tokenizer.
    """
    if config.tokenizer.path:
        return config
    folder = config.model.init_from
    path, tags = "byte", config.tokenizer.special_tokens
    if folder and is_pretrained(folder):
        path = folder
        if not holds_tokenizer(folder):
            raise ValueError(
                f"{folder} holds no tokenizer: name the folder of one, or 'byte' "
                "(config.tokenizer.path)."
            )
    elif folder and (recorded := run_config(find_step(folder))) is not None:
        path = recorded["tokenizer"]["path"]
        tags = tags or tuple(recorded["tokenizer"]["special_tokens"])
    settled = ConfigDict(config.to_dict()).lock()
    settled.tokenizer.path, settled.tokenizer.special_tokens = path, tags
    return settled


def make_text_format(config: Mapping[str, Any], tokenizer: str = "") -> TextFormat:
    """The format of a run.

    Args:
        config: complete, with a tokenizer (`settle_tokenizer`); or as a run has recorded it.
        tokenizer: to be used instead of the config's.

    Raises:
        ValueError: for a tokenizer or a template that cannot be used.
    """
    section, data, start = config["tokenizer"], config["data"], config["model"]["init_from"]
    path = tokenizer or section["path"]
    loaded = load_tokenizer(path, tuple(section["special_tokens"]))
    template = make_template(
        loaded,
        turn=section["chat_turn"],
        opening=section["chat_generation_prompt"],
        clock=section["clock"],
    )
    return TextFormat(
        loaded,
        template=template,
        template_options=template_options(section["template_options"]),
        add_bos=section["add_bos"],
        chat=data["chat"],
        system_prompt=data["system_prompt"],
        control_tokens=section["control_tokens"],
        stop_tokens=[
            token for folder in (*_models(start), path) for token in stop_token_ids(folder)
        ],
    )


def _models(start: str) -> Iterator[str]:
    """The published folders that a start goes back to, through the runs in between."""
    while start:
        if is_pretrained(start):
            yield start
            return
        recorded = run_config(find_step(start)) or {}
        start = recorded.get("model", {}).get("init_from", "")


def tokenizer_folder(config: ConfigDict) -> Path | None:
    """The folder of a run's tokenizer, if it has one."""
    path = Path(config.tokenizer.path)
    return path if path.is_dir() else None
