"""Writes a checkpoint of a run as a Hugging Face folder.

    python launch/export.py --checkpoint=WORKDIR/checkpoints/STAGE[/STEP] --out=DIR

    --dtype=bfloat16   type of the written weights; by default that of the parameters
    --source=FOLDER    a checkpoint of the same family whose tokenizer, chat template, generation
                       settings and config.json go along; by default the one that the run started
                       from, and the tokenizer of the run
    --adapters         the adapters alone, as the library PEFT reads them; --dtype and --source
                       have no part in that

Without STEP the last one is taken. Adapters are merged into their base, unless --adapters asks for
them. A model that was trained from scratch goes out as the family that has its options (llama,
qwen3, ...), if there is one.
"""

import argparse
import sys
from pathlib import Path

import jax

from rljax.config.runs import find_step, recorded_network, run_config
from rljax.data.tokenizers import load_tokenizer, special_ids
from rljax.models.lora import combine, merge_adapters
from rljax.models.network import Network
from rljax.models.peft_format import save_adapters
from rljax.models.pretrained import is_pretrained, save_pretrained
from rljax.parallel.mesh import widest_mesh
from rljax.training.run.start import Source, check_start, load_start


def export(checkpoint: Path, out: Path, dtype: str, source: str, adapters: bool) -> None:
    """Reads the model of a run and writes it.

    Raises:
        ValueError: if there is no such run or checkpoint, or the model fits no published family.
    """
    step = find_step(checkpoint)
    config = run_config(step)
    if config is None:
        raise ValueError(
            f"No {step.parents[2] / 'config.json'}: --checkpoint must lie in the folder of a run, "
            "as WORKDIR/checkpoints/STAGE[/STEP]."
        )
    path, tags = config["tokenizer"]["path"], tuple(config["tokenizer"]["special_tokens"])
    tokenizer = load_tokenizer(path, tags)
    network = Network.create(recorded_network(config, step))
    start = Source(str(step), config["seed"])
    check_start(start, network)
    own_tokenizer, folder = None, config["model"]["init_from"]
    if not source:
        own_tokenizer = None if path == "byte" else path
        source = folder if is_pretrained(folder) else ""
    mesh = widest_mesh(network.config.width)
    with jax.set_mesh(mesh):
        params = combine(*load_start(start, network, mesh))
        if adapters:
            save_adapters(out, network, params, base_model=folder)
            return
        network, params = merge_adapters(network, params)
        save_pretrained(
            out,
            network,
            params,
            source=source or None,
            tokenizer=own_tokenizer,
            dtype=dtype,
            more_config={} if source else special_ids(tokenizer),
        )


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after printing what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dtype", default="", choices=("float32", "bfloat16"))
    parser.add_argument("--source", default="", metavar="DIR")
    parser.add_argument("--adapters", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.adapters and (options.dtype or options.source):
            raise ValueError(
                "--dtype and --source are of whole models: leave them out (--adapters)"
            )
        export(options.checkpoint, options.out, options.dtype, options.source, options.adapters)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
