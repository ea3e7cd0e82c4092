"""Writes a checkpoint of a run as a Hugging Face folder.

    python launch/export.py --checkpoint=WORKDIR/checkpoints/STAGE[/STEP] --out=DIR

    --dtype=bfloat16   type of the written weights; by default that of the parameters
    --source=FOLDER    a checkpoint of the same family whose tokenizer, chat template, generation
                       settings and config.json go along; by default the one that the run started
                       from, and the tokenizer of the run

Without STEP the last one is taken. Adapters are merged into their base. A model that was trained
from scratch goes out as the family that has its options (llama, qwen3, ...), if there is one.
"""

import argparse
import sys
from pathlib import Path

import jax

from rljax.config.runs import find_step, recorded_network, run_config
from rljax.data.tokenizers import load_tokenizer, special_ids
from rljax.models.lora import combine, merge_adapters
from rljax.models.network import Network
from rljax.models.pretrained import is_pretrained, save_pretrained
from rljax.parallel.mesh import widest_mesh
from rljax.training.run.start import Source, check_start, load_start


def export(checkpoint: Path, out: Path, dtype: str, source: str) -> None:
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
    network = Network.create(recorded_network(config))
    start = Source(str(step), config["seed"])
    check_start(start, network)
    own_tokenizer = None
    if not source:
        own_tokenizer = None if path == "byte" else path
        folder = config["model"]["init_from"]
        source = folder if is_pretrained(folder) else ""
    mesh = widest_mesh(network.config.width)
    with jax.set_mesh(mesh):
        network, params = merge_adapters(network, combine(*load_start(start, network, mesh)))
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
    options = parser.parse_args(arguments)
    try:
        export(options.checkpoint, options.out, options.dtype, options.source)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
