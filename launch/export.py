"""Writes a checkpoint of a run as a Hugging Face folder.

    python launch/export.py --checkpoint=WORKDIR[/checkpoints/STAGE[/STEP]] --out=DIR

Without STEP the last one is taken, without STAGE the last stage. Adapters are merged into their
base, unless --adapters asks for them alone. Tokenizer, chat template and generation settings go
along: those of --source, else of the model that the run started from. A model that was trained
from scratch goes out as the family that has its options (llama, qwen3, ...), if there is one.

A reward model goes out as a *ForSequenceClassification folder with one label. transformers scores
the last token that is not config.json's pad_token_id, so that id is written, and it may end no
completion. One that is read otherwise (a process reward, a generative one) says so in config.json,
under rljax_scored_as: a run of ours that reads the folder in another way is refused.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import jax

from rljax.commands.parser import Parser, path
from rljax.commands.paths import check_folder
from rljax.commands.run import run
from rljax.config.reward_role import scored_as
from rljax.config.runs import find_run, recorded_network
from rljax.data.byte_files import write_byte_tokenizer, write_chat_template
from rljax.data.pad_token import pad_that_ends_nothing, with_pad_token
from rljax.data.tokenizers import Tokenizer, load_tokenizer, special_ids
from rljax.models.lora import combine, merge_adapters
from rljax.models.network import Network
from rljax.models.peft_format import save_adapters
from rljax.models.pretrained import is_pretrained, save_pretrained
from rljax.models.pretrained.checks import SCORED_AS
from rljax.parallel.mesh import widest_mesh
from rljax.processes.identity import check_alone
from rljax.training.run.start import Source, check_start, load_start
from rljax.training.run.text_format import make_text_format


def export(
    checkpoint: Path, out: Path, dtype: str, source: str, adapters: bool, pad_token: str = ""
) -> None:
    """Reads the model of a run and writes it.

    Raises:
        ValueError: if there is no such run or checkpoint, the model fits no published family, or
            it is a reward model without a padding token.
    """
    step, config = find_run(checkpoint, "--checkpoint")
    place, tags = config["tokenizer"]["path"], tuple(config["tokenizer"]["special_tokens"])
    tokenizer = load_tokenizer(place, tags)
    network = Network.create(recorded_network(config, step))
    start = Source(str(step), config["seed"])
    check_start(start, network)
    folder = config["model"]["init_from"]
    own = not source  # the run's tokenizer goes along, not that of --source
    begun = is_pretrained(folder) and not config["model"]["convert"]  # of the same family
    source = source or (folder if begun else "")
    mesh = widest_mesh(network.config.width)
    new = tempfile.TemporaryDirectory
    scores = network.config.head == "reward" and not adapters
    if pad_token and not scores:
        raise ValueError("only reward models are exported with a padding token (--pad-token)")
    keys = {} if source else special_ids(tokenizer)
    if scores:
        text_format = make_text_format(config, "" if own else source)
        pad = pad_that_ends_nothing(text_format, pad_token, "--pad-token")
        keys["pad_token_id"] = pad
    if form := scored_as(config[step.parent.name]["data"]):
        keys[SCORED_AS] = form
    with jax.set_mesh(mesh), new() as made, new() as also:
        params = combine(*load_start(start, network, mesh))
        if adapters:
            save_adapters(out, network, params, base_model=folder)
            return
        network, params = merge_adapters(network, params)
        section = config["tokenizer"]
        if own and section["chat_turn"]:
            turn, opening = section["chat_turn"], section["chat_generation_prompt"]
            write_chat_template(Path(also), turn, opening)
        if pad_token:
            with_pad_token(Path(place if own else source), pad_token, Path(also))
        save_pretrained(
            out,
            network,
            params,
            source=source or None,
            tokenizer=_tokenizer_folder(place, tokenizer, Path(made)) if own else None,
            also=Path(also),
            dtype=dtype,
            more_config=keys,
        )


def _tokenizer_folder(place: str, tokenizer: Tokenizer, made: Path) -> Path | None:
    """Where the files of a run's tokenizer are; those of bytes are written to `made`."""
    if place == "byte":
        write_byte_tokenizer(made, tokenizer)
        return made
    return Path(place) if Path(place).is_dir() else None


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("--checkpoint", type=path, required=True, metavar="DIR", help="a run, or a part of it")
    add("--out", type=path, required=True, metavar="DIR", help="where the folder is written")
    add(
        "--dtype",
        default="",
        choices=("float32", "bfloat16"),
        help="of the written weights (that of the parameters)",
    )
    add(
        "--source",
        default="",
        metavar="DIR",
        help="a checkpoint of the same family whose tokenizer, chat template, generation settings "
        "and config.json go along",
    )
    add(
        "--pad-token",
        default="",
        metavar="TOKEN",
        help="a reward model whose tokenizer has no padding token of its own: the token to take",
    )
    add(
        "--adapters",
        action="store_true",
        help="write the adapters alone, as the library PEFT reads them",
    )
    return made


def command(options: argparse.Namespace) -> None:
    """Checks the flags, and exports."""
    check_alone("launch/export.py", os.environ)
    if options.adapters and (options.dtype or options.source):
        raise ValueError("--dtype and --source are of whole models: leave them out (--adapters)")
    check_folder(options.out, "--out")
    export(
        options.checkpoint,
        options.out,
        options.dtype,
        options.source,
        options.adapters,
        options.pad_token,
    )
    print(f"wrote {options.out}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), command, arguments)


if __name__ == "__main__":
    sys.exit(main())
