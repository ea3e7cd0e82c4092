"""What a model folder, or the checkpoint of a run, would be loaded as: headers and JSON files only.

It goes on after every problem that it finds, and lists them all.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rljax.config.runs import find_step, recorded_network, run_config
from rljax.data.chat import CLOCK, make_template
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import HFTokenizer, Tokenizer, holds_tokenizer, load_tokenizer
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained import stop_token_ids
from rljax.models.pretrained.checks import read_json
from rljax.models.pretrained.files import unread_files
from rljax.models.pretrained.load import check_tensors as check_published
from rljax.models.pretrained.load import described_with_files, read_stored
from rljax.models.pretrained.names import NAMES
from rljax.models.pretrained.tensor_files import BITS, StoredTensor
from rljax.models.sizes import DTYPES, USES, model_bytes
from rljax.sampling.checks import device_memory
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.vocabulary import samplable_ids, text_only
from rljax.training.run.start import Source, check_start
from rljax.training.run.text_format import make_text_format

Section = dict[str, Any]

# Shown in GiB.
BYTES = {"bytes", "this machine", "one device"}
BYTES |= {f"{use}, {dtype}" for use in USES for dtype in DTYPES}

# How many tokens, and lines of a template, are shown.
SHOWN = 12

TALK = [{"role": "user", "content": "Hi"}]
SYSTEM = [{"role": "system", "content": "Be brief"}, *TALK]
TOOLS = [{"type": "function", "function": {"name": "add_numbers", "parameters": {}}}]


@dataclasses.dataclass
class Inspection:
    """What was found.

    Attributes:
        path: what was looked at.
        sections: title -> name -> value, all of them plain (JSON).
        problems: each in one line, or a few.
    """

    path: str
    sections: dict[str, Section] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)

    def attempt(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns; None where it fails, and then its error is a problem."""
        try:
            return function(*args)
        except (ValueError, OSError) as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return None


def inspect(path: str | Path) -> Inspection:
    """Looks at a Hugging Face folder, or at WORKDIR[/checkpoints/STAGE[/STEP]]; raises nothing."""
    path, found = Path(path), Inspection(str(path))
    if not path.is_dir():
        found.problems.append(f"There is no folder {path}.")
    elif _is_model(path):
        _inspect_folder(path, found)
    else:
        _inspect_run(path, found)
    return found


def _is_model(path: Path) -> bool:
    """Whether it is a model's folder; a run's has a config.json too."""
    if (path / "checkpoints").is_dir():
        return False
    return (path / "config.json").is_file() or any(path.glob("*.safetensors*"))


def _inspect_folder(folder: Path, found: Inspection) -> None:
    remarks: Sequence[str] = ()
    network, stored = None, {}
    if (description := found.attempt(described_with_files, folder)) is not None:
        remarks, fields = description.remarks, description.fields
        network = found.attempt(lambda: Network.create(ModelConfig(**fields)))
        stored = found.attempt(read_stored, folder, description) or {}
        if network is not None:
            found.attempt(check_published, folder, network)
            named = {"family": description.family.model_type} | _classes(description.values)
            found.sections["model"] = named | _model(network)
            output = NAMES[description.family.model_type]["output"].name
            found.sections["output"] = _output(network.config, output, stored)
    if stored:
        found.sections["weights"] = _weights(stored)
    ends = found.attempt(stop_token_ids, folder) or ()
    text_format = found.attempt(_text_format, folder, ends) if holds_tokenizer(folder) else None
    if not holds_tokenizer(folder):
        found.problems.append(f"{folder} holds no tokenizer: name one (config.tokenizer.path).")
    _add_texts(found, network, text_format, _said_ends(folder, found))
    found.sections["not read"] = {
        "remarks": list(remarks),
        "files": found.attempt(unread_files, folder) or [],
    }


def _inspect_run(path: Path, found: Inspection) -> None:
    """The checkpoint of a run."""
    step = found.attempt(find_step, path)
    config = None if step is None else found.attempt(run_config, step)
    if step is None:
        return
    if config is None:
        found.problems.append(f"{step.parents[2] / 'config.json'} of the run is missing.")
        return
    network = found.attempt(lambda: Network.create(recorded_network(config, step)))
    if network is not None:
        found.attempt(check_start, Source(str(step), config["seed"]), network)
        found.sections["model"] = {"checkpoint": str(step)} | _model(network)
        tied = network.config.tied_embeddings
        found.sections["output"] = {"tied": tied, "read": "embedding" if tied else "output"}
    text_format = found.attempt(make_text_format, config)
    folders = [config["model"]["init_from"], config["tokenizer"]["path"]]
    said = {}
    for folder in folders:
        if folder and Path(folder).is_dir():
            said |= _said_ends(Path(folder), found)
    _add_texts(found, network, text_format, said)


def _add_texts(
    found: Inspection,
    network: Network | None,
    text_format: TextFormat | None,
    said: Mapping[str, Any],
) -> None:
    """The sections that need the tokenizer, and those that come after them."""
    if network is not None:
        found.sections["positions"] = _positions(network.config)
    if text_format is not None:
        tokenizer = text_format.tokenizer
        found.sections["beginnings and ends"] = _ends(text_format, said)
        found.sections["chat template"] = _template(text_format)
        found.sections["special tokens"] = _special(tokenizer)
        if network is not None:
            found.sections["vocabulary"] = _vocabulary(network.config, text_format)
            if tokenizer.vocab_size > network.config.vocab_size:
                found.problems.append(
                    f"The tokenizer has ids up to {tokenizer.vocab_size - 1}, the model "
                    f"{network.config.vocab_size} rows: they do not belong together."
                )
    if network is not None:
        found.sections["memory"] = _memory(network)


def _text_format(folder: Path, ends: Sequence[int]) -> TextFormat:
    """As a run from this folder would make it."""
    tokenizer = load_tokenizer(folder)
    template = make_template(tokenizer, turn="", opening="", clock=CLOCK)
    return TextFormat(tokenizer, template=template, stop_tokens=ends)


def _classes(values: Mapping[str, Any]) -> Section:
    return {"class": (values.get("architectures") or ["not said"])[0]}


def _model(network: Network) -> Section:
    config = network.config
    found: Section = {
        "head": config.head,
        "parameters": network.parameter_count,
        "of them embedding": network.shapes["embedding"].size,
        "layers": config.layers,
        "width": config.width,
        "heads": f"{config.heads} of {config.head_dim}, {config.kv_heads} for keys and values",
        "mlp width": config.mlp_width,
        "causal": config.causal,
    }
    if config.experts:
        found["experts"] = f"{config.experts_per_token} of {config.experts}"
    if config.lora is not None:
        found["adapters"] = f"rank {config.lora.rank} on {', '.join(config.lora.modules)}"
    return found


def _output(config: ModelConfig, name: str, stored: Mapping[str, StoredTensor]) -> Section:
    """Which matrix gives the logits."""
    if config.head != "language_model":
        return {"head": config.head, "outputs": config.head_outputs}
    read = "the embedding" if config.tied_embeddings else name
    spare = config.tied_embeddings and name in stored
    return {"tied": config.tied_embeddings, "read": read + (f" ({name} is equal)" if spare else "")}


def _weights(stored: Mapping[str, StoredTensor]) -> Section:
    types = Counter(tensor.dtype for tensor in stored.values())
    return {
        "files": len({tensor.path for tensor in stored.values()}),
        "tensors": len(stored),
        "types": dict(types),
        "bytes": sum(
            int(np.prod(tensor.shape, dtype=np.int64)) * BITS[tensor.dtype] // 8
            for tensor in stored.values()
        ),
        "loaded as": "config.model.param_dtype says, float32 by default",
    }


def _positions(config: ModelConfig) -> Section:
    scaling = config.rope_scaling
    told = None if scaling is None else {k: v for k, v in dataclasses.asdict(scaling).items()}
    found: Section = {
        "made for": config.max_positions or "not said: no limit",
        "rotary base": config.rope_base,
        "scaling": told or "none",
    }
    if config.sliding_window:
        local = config.global_layers.count(False)
        found["window"] = f"{config.sliding_window} tokens in {local} of {config.layers} layers"
        found["rotary base in windows"] = config.local_rope_base or config.rope_base
    return found


def _said_ends(folder: Path, found: Inspection) -> Section:
    """The ends that each JSON file of a folder names."""
    said = {}
    for name, key in (
        ("generation_config.json", "eos_token_id"),
        ("config.json", "eos_token_id"),
        ("tokenizer_config.json", "eos_token"),
    ):
        if (folder / name).is_file():
            value = (found.attempt(read_json, folder / name) or {}).get(key)
            said[f"{name} says"] = value.get("content") if isinstance(value, dict) else value
    return said


def _ends(text_format: TextFormat, said: Mapping[str, Any]) -> Section:
    tokenizer = text_format.tokenizer
    return {
        "a text begins with": _named(tokenizer, tokenizer.begin) or "nothing",
        "a completion ends at": _named(tokenizer, text_format.ends),
        "the template ends a turn with": text_format.chat_end_text or "nothing that is known",
        **said,
    }


def _named(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    return [f"{token} {tokenizer.token_text(token)!r}" for token in ids]


def _template(text_format: TextFormat) -> Section:
    """What the chat template can do, tried out."""
    template = text_format.template
    if template is None:
        return {"there is": False}

    def rendered(messages: Sequence[Mapping], open_turn: bool = True, **options: Any) -> str:
        try:
            return template.render(
                messages, open_turn=open_turn, options=options, where="the folder"
            )
        except ValueError:
            return ""

    plain, closed = rendered(TALK), rendered(TALK, open_turn=False)
    source = getattr(getattr(text_format.tokenizer, "inner", None), "chat_template", "")
    source = source if isinstance(source, str) else "\n".join(map(str, source or ()))
    return {
        "there is": True,
        "system messages": "Be brief" in rendered(SYSTEM),
        "tools": "add_numbers" in rendered(TALK, tools=TOOLS),
        "opens the model's turn with": plain.removeprefix(closed) or "nothing",
        "a user's 'Hi' becomes": plain,
        "first lines": [line[:100] for line in source.splitlines()[:SHOWN]],
    }


def _special(tokenizer: Tokenizer) -> Section:
    named = {
        name: tokenizer.token_text(token)
        for name in ("pad", "bos", "eos")
        if (token := getattr(tokenizer, f"{name}_id")) is not None
    }
    controls = list(tokenizer.control_tokens)
    found: Section = named | {
        "control tokens": len(controls),
        "the first of them": ", ".join(map(repr, controls[:SHOWN])),
    }
    if isinstance(tokenizer, HFTokenizer):
        added = tokenizer.inner.added_tokens_decoder
        found["added tokens"] = len(added)
        plain = [token.content for token in added.values() if not token.special]
        found["added, not special"] = ", ".join(map(repr, plain[:SHOWN]))
    return found


def _vocabulary(config: ModelConfig, text_format: TextFormat) -> Section:
    known = text_format.tokenizer.known()
    samplable = samplable_ids(known, config.vocab_size, text_format.ends)
    return {
        "rows of the model": config.vocab_size,
        "tokens of the tokenizer": int(known.sum()),
        "largest id": int(np.flatnonzero(known)[-1]),
        "holes below it": int((~known).sum()),
        "rows that are never sampled": [
            f"{start}..{stop - 1}" for start, stop in text_only(TokenFilter(), samplable).textless
        ][:SHOWN],
    }


def _memory(network: Network) -> Section:
    """What training needs, and what there is."""
    found: Section = dict(model_bytes(network))
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    devices = jax.devices()
    each = device_memory(jax.sharding.Mesh(np.array(devices), ("data",)))
    too_large = [name for name, size in found.items() if size > (each or host)]
    return found | {
        "on top": "activations, caches; as much as to load for a reference, and for the sampler",
        "this machine": host,
        "devices": f"{len(devices)} {devices[0].platform}",
        "one device": each or "not known",
        "too large for one device": too_large or "nothing",
    }


def as_text(found: Inspection) -> str:
    """The inspection as a person reads it; what no terminal should be sent is escaped."""
    lines = [printable(found.path)]
    for title, section in found.sections.items():
        shown = {name: value for name, value in section.items() if value not in (None, [], "")}
        if not shown:
            continue
        lines += ["", title]
        width = max(map(len, shown))
        for name, value in shown.items():
            first, *rest = _in_lines(name, value)
            lines.append(f"  {name:<{width}}  {first}")
            lines += [" " * (width + 4) + line for line in rest]
    lines += ["", f"{len(found.problems)} problems" if found.problems else "no problems"]
    for problem in found.problems:
        first, *rest = map(printable, problem.splitlines() or [""])
        lines += [f"  - {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def _in_lines(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, list):
        return list(map(printable, map(str, value)))
    if isinstance(value, Mapping):
        return [printable(", ".join(f"{key} {each}" for key, each in value.items()))]
    if isinstance(value, int):
        return [f"{value / 2**30:.2f} GiB" if name in BYTES else f"{value:,}"]
    return [printable(str(value))]


def printable(text: str) -> str:
    """A text in one line, without control characters and halves of letters."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
