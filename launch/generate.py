r"""Samples from a checkpoint of a run, or from a published model.

    python launch/generate.py --checkpoint=WORKDIR[/checkpoints/STAGE[/STEP]] --prompt="1 + 1 ="
    python launch/generate.py --model=FOLDER --prompts=FILE.jsonl --out=FILE.jsonl --n=4 \
        --temperature=0.8 --top-p=0.95 --max-new-tokens=256 --stop='["\n\n"]' --weights=bfloat16

A line of --prompts is an object with the prompt as text, or as a list of chat messages, which go
through the chat template as in training. A line of --out is the same object with the place of the
line as "id" (unless it has one) and "completions": text, stop_reason, tokens, logprobs (under the
distribution really sampled from) and model_logprobs of each. Without --out the texts are printed.

Noise belongs to (seed, place of the prompt, number of the completion): neither batches nor other
prompts change a completion, up to float rounding.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from rljax.commands.parser import Parser, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.data.rows import prompt_of
from rljax.data.sources import open_source, place_of
from rljax.data.text_format import TextFormat
from rljax.errors import unknown_name
from rljax.parallel.mesh import AXES, make_mesh
from rljax.processes.identity import check_alone
from rljax.sampling.choose import Penalties
from rljax.sampling.completion import Completion
from rljax.sampling.distribution import EntropyTemperature
from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from rljax.training.run.loaded import Model, load_published, load_run

# Flags that are arguments of `Generator`.
GENERATOR_FLAGS = ("weights", "cache", "slots", "batch_prompts", "max_prompt_tokens")

# What errors of the library call the flags.
FLAGS = {
    r"config\.<stage>\.sampling\.": "--",
    r"\(penalties\.": "(--penalties.",
    r"\(prompts\)": "(--prompt, --prompts)",
    r"(SamplingOptions|Generator)\.": "--",
    r"config\.model\.init_from": "--checkpoint",
    r"config\.tokenizer(\.\w+)?": "--tokenizer",
    r"config\.data\.prompt_column": "--prompt-column",
    r"config\.mesh": "--mesh",
}


def read_prompts(flags: argparse.Namespace) -> Sequence[Mapping[str, Any]]:
    """Records with a prompt."""
    column = flags.prompt_column
    if flags.prompt is not None:
        return [{column: flags.prompt}]
    return open_source(
        "jsonl",
        path=flags.prompts,
        chat_columns=(column,),
        path_field="--prompts",
        columns_field="--prompt-column",
    )


def sampling_options(flags: argparse.Namespace) -> SamplingOptions:
    """The flags that say how a prompt is completed.

    Raises:
        ValueError: for impossible values.
    """
    names = {field.name for field in dataclasses.fields(SamplingOptions)} - {"seed"}
    given = {name: getattr(flags, name) for name in names}
    for name, kind in (("entropy_temperature", EntropyTemperature), ("penalties", Penalties)):
        given[name] = _filled(kind, given[name], f"--{name}")
    given["logit_bias"] = {_id(token): bias for token, bias in flags.logit_bias.items()}
    return SamplingOptions(**given)


def _filled(kind: type, given: Mapping[str, Any] | None, flag: str) -> Any:
    """A dataclass from the JSON of a flag."""
    if given is None:
        return None
    known = [field.name for field in dataclasses.fields(kind)]
    for name in given:
        if name not in known:
            raise unknown_name("field", name, known, flag)
    try:
        return kind(**given)
    except TypeError as error:  # a field is missing, or no number
        raise ValueError(f"{error} ({flag})") from error


def _id(token: str) -> int:
    """JSON has no other keys than texts."""
    if not token.isdecimal():
        raise ValueError(f"ids must be whole numbers, got {token!r} (--logit-bias)")
    return int(token)


def load_model(flags: argparse.Namespace) -> tuple[Model, Mesh]:
    """The model of --checkpoint or --model, on the mesh of the flags."""
    sizes = {axis: getattr(flags, f"mesh.{axis}") for axis in AXES}
    mesh = make_mesh(
        {"data": -1} | {axis: size for axis, size in sizes.items() if size is not None}
    )
    talk: dict[str, Any] = {"chat": True} if flags.chat or flags.system_prompt else {}
    talk |= {"system_prompt": flags.system_prompt} if flags.system_prompt else {}
    if flags.checkpoint is not None:
        if flags.adapters is not None:
            raise ValueError("the checkpoint of a run holds its own adapters (--adapters)")
        if flags.dtype is not None:
            raise ValueError(
                "the parameters of a run have the precision that they were trained in; "
                "--weights=bfloat16 is that of the sampler (--dtype)"
            )
        model = load_run(flags.checkpoint, flags.tokenizer, mesh, talk)
        if model.network.config.head != "language_model":
            raise ValueError(
                f"{flags.checkpoint} is a model with a {model.network.config.head} head: "
                "generating needs a language model (--checkpoint)"
            )
        return model, mesh
    dtype = flags.dtype or "float32"
    return load_published(flags.model, flags.tokenizer, dtype, flags.adapters, mesh, talk), mesh


def start(
    flags: argparse.Namespace, records: Sequence[Mapping[str, Any]], options: SamplingOptions
) -> Iterator[list[list[Completion]]]:
    """Loads the model and checks the prompts; the iterator then samples batch by batch."""
    model, mesh = load_model(flags)
    rows = model.network.config.vocab_size
    generator = Generator(
        model.network,
        model.params,
        model.text_format.tokenizer,
        mesh,
        stop_tokens=[token for token in model.text_format.ends if token < rows],  # or never drawn
        **{name: getattr(flags, name) for name in GENERATOR_FLAGS},
    )
    prompts = prompt_tokens(records, model.text_format, flags.prompt_column)
    return generator.stream(prompts, options, seed=flags.seed)


def prompt_tokens(
    records: Sequence[Mapping[str, Any]], text_format: TextFormat, column: str
) -> list[list[int]]:
    """The ids of all prompts, texts and chats, as training reads them.

    Raises:
        ValueError: for one that cannot be read, with its line.
    """
    places = (place_of(records, index) for index in range(len(records)))
    return [
        prompt_of(record, text_format, where=where, column=column).tokens
        for record, where in zip(records, places, strict=True)
    ]


def record_of(completion: Completion, *, include_stop: bool) -> dict[str, Any]:
    """What a line of --out says of a completion."""
    record = {
        "text": completion.full_text if include_stop else completion.text,
        "stop_reason": completion.stop_reason,
        "tokens": completion.tokens,
        "logprobs": completion.logprobs.tolist(),
        "model_logprobs": completion.model_logprobs.tolist(),
    }
    if completion.top_tokens is not None:
        record["top_tokens"] = completion.top_tokens.tolist()
        record["top_logprobs"] = completion.top_logprobs.tolist()
    return record


def print_texts(place: int, completions: Sequence[Completion], *, include_stop: bool) -> None:
    """Prints the texts for people."""
    for number, each in enumerate(completions):
        reason = each.stop_reason.replace("_", " ")
        print(f"--- prompt {place}, completion {number}: {len(each.tokens)} tokens, {reason}")
        print(each.full_text if include_stop else each.text)


def write(
    flags: argparse.Namespace,
    records: Sequence[Mapping[str, Any]],
    batches: Iterator[list[list[Completion]]],
) -> None:
    """Samples, writes each batch as it is done, and prints how fast that was."""
    started, seconds, tokens = time.perf_counter(), [0.0], [0]
    places = iter(range(len(records)))
    with contextlib.ExitStack() as stack:
        file = flags.out and stack.enter_context(flags.out.open("w", encoding="utf-8"))
        for batch in batches:
            seconds.append(time.perf_counter() - started)
            tokens.append(tokens[-1] + sum(len(c.tokens) for each in batch for c in each))
            for completions, place in zip(batch, places, strict=False):
                if not file:
                    print_texts(place, completions, include_stop=flags.include_stop)
                    continue
                found = [record_of(c, include_stop=flags.include_stop) for c in completions]
                line = {"id": place, **records[place], "completions": found}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            if file:
                file.flush()
                print(f"{place + 1}/{len(records)} prompts, {tokens[-1]:,} tokens")
    rate = tokens[-1] / seconds[-1]
    print(f"{tokens[-1]:,} tokens in {seconds[-1]:.1f} s, {rate:,.0f} tokens/s with compilation")
    if len(seconds) > 2:
        rate = (tokens[-1] - tokens[1]) / (seconds[-1] - seconds[1])
        print(f"{rate:,.0f} tokens/s after the first batch")
    if flags.out is not None:
        print(f"wrote {flags.out}")


def json_of(kind: type, example: str) -> Callable[[str], Any]:
    """Reads a flag as JSON."""

    def read(text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, kind):
            raise argparse.ArgumentTypeError(f"must be JSON such as {example}, got {text!r}")
        return value

    return read


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    where = made.add_argument_group("model, prompts, result")
    add, either = where.add_argument, where.add_mutually_exclusive_group(required=True)
    either.add_argument("--checkpoint", type=path, metavar="DIR", help="a run, or a part of it")
    either.add_argument("--model", type=path, metavar="DIR", help="a Hugging Face folder")
    add("--adapters", type=path, metavar="DIR", help="of --model, as the library PEFT writes them")
    add("--tokenizer", default="", metavar="DIR", help="a folder, or byte (the model's own)")
    add("--dtype", default=None, choices=("float32", "bfloat16"), help="in which --model is read")
    either = where.add_mutually_exclusive_group(required=True)
    either.add_argument("--prompt", metavar="TEXT", help="a single one")
    either.add_argument("--prompts", type=path, metavar="FILE", help="JSON lines")
    add("--chat", action="store_true", help="a prompt that is text is the user's message")
    add("--system-prompt", default="", metavar="TEXT", help="before it; turns --chat on")
    add("--prompt-column", default="prompt", metavar="NAME", help="of --prompts (prompt)")
    add("--out", type=path, metavar="FILE", help="JSON lines; without it texts are printed")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    add("--include-stop", action="store_true", help="texts with what ended them")
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="of the noise (0)")
    _add_options(made.add_argument_group("completions"))
    add = made.add_argument_group("sampler").add_argument
    add("--weights", default="", choices=("bfloat16", "int8"), help="as they are, or in this")
    add("--cache", default="", choices=("int8",), help="of keys and values")
    add("--slots", type=whole(0), default=64, help="completions at a time (64; 0: all)")
    add("--batch-prompts", type=whole(1), default=128, help="prompts at a time (128)")
    add("--max-prompt-tokens", type=whole(1), help="a longer prompt is an error")
    for axis in AXES:
        add(f"--mesh.{axis}", type=whole(-1), metavar="N", help="size of this axis of the mesh")
    return made


def _add_options(group: argparse._ArgumentGroup) -> None:
    """One flag for each field of `SamplingOptions`, but for its seed."""
    add, defaults = group.add_argument, SamplingOptions()
    for name, text in (
        ("n", "completions of each prompt"),
        ("max_new_tokens", "of each completion"),
        ("min_new_tokens", "before which none ends by itself"),
        ("temperature", "0 is greedy"),
        ("top_k", "0 keeps all tokens"),
        ("top_p", "1 keeps all tokens"),
        ("min_p", "0 keeps all tokens"),
        ("top_logprobs", "likeliest tokens that are written for each token"),
        ("first_sample", "number of the first completion"),
    ):
        default = getattr(defaults, name)
        flag = f"--{name.replace('_', '-')}"
        add(flag, type=type(default), default=default, metavar="N", help=f"{text} ({default})")
    texts, ids = json_of(list, r"""'["\n\n"]'"""), json_of(list, "'[1, 2]'")
    add("--stop", type=texts, default=(), metavar="JSON", help="texts that end a completion")
    add("--stop-tokens", type=ids, default=(), metavar="JSON", help="ids that do, besides eos")
    add("--forbidden-tokens", type=ids, default=(), metavar="JSON", help="ids that never come")
    for name, default, example in (
        ("logit-bias", {}, """'{"13": -5.0}'"""),
        ("penalties", {}, """'{"repetition": 1.1, "presence": 0.0, "frequency": 0.0}'"""),
        ("entropy-temperature", None, """'{"theta": 0.5}'"""),
    ):
        read = json_of(dict, example)
        add(f"--{name}", type=read, default=default, metavar="JSON", help=f"such as {example}")


def in_flags(message: str) -> str:
    """An error of the library in the words of this command."""
    for pattern, name in FLAGS.items():
        message = re.sub(pattern, name, message)
    return re.sub(r"--(?!config\.)[a-z_.]+", lambda flag: flag[0].replace("_", "-"), message)


def generate(flags: argparse.Namespace) -> None:
    """Checks everything, and samples."""
    check_alone("launch/generate.py", os.environ)
    if flags.out is not None:
        check_file(flags.out, "--out", overwrite=flags.overwrite)
    try:
        options, records = sampling_options(flags), read_prompts(flags)
        write(flags, records, start(flags, records, options))
    except ValueError as error:
        error.args = (in_flags(str(error)),)
        raise


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), generate, arguments)


if __name__ == "__main__":
    sys.exit(main())
