"""The files of a model folder besides config.json and weights: which of them an export carries.

Everything goes along that a tokenizer, a processor or transformers' generation may read, under
whatever name. What stays behind are weights in any format, what a training run left there, and the
card of another model.
"""

from fnmatch import fnmatch
from pathlib import Path

CONFIG = "config.json"
GENERATION = "generation_config.json"
ADAPTERS = "adapter_config.json"

# Of the model, not of its tokenizer: generation settings, the code of models that transformers does
# not have, and what allows to pass it on.
MODEL_FILES = (GENERATION, "*.py", "LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*")
TOKENIZER_CODE = "tokenization*.py"
# A folder in the folder, of the tokenizer.
TEMPLATES = "additional_chat_templates"

WEIGHTS = (
    *("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth"),
    *("*.gguf", "*.ggml", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.tflite", "*.ckpt*"),
    *("*.npz", "*.npy", "*.zip", "*.tar*"),
)
LEFT_BEHIND = (
    *("README*", ".*", "*.md", CONFIG, ADAPTERS, "params.json", "consolidated*"),
    *("training_args*", "trainer_state*", "optimizer*", "scheduler*", "rng_state*", "events.*"),
    *("*_results.json", "*.log", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.pdf"),
)


def carried_files(source: Path | None, tokenizer: Path | None) -> dict[str, Path]:
    """What an export carries: name in the folder, with "/" where it is deeper -> file.

    Args:
        source: the folder that the model comes from.
        tokenizer: the folder of its tokenizer.

    Raises:
        ValueError: for a link that leads out of its folder.
    """
    of_model = {} if source is None else files_of(source)
    of_tokenizer = {} if tokenizer is None else files_of(tokenizer)
    found = {name: path for name, path in of_model.items() if _matches(name, MODEL_FILES)}
    found |= {name: path for name, path in of_tokenizer.items() if _is_tokenizers(name)}
    return dict(sorted(found.items()))


def _is_tokenizers(name: str) -> bool:
    if _matches(name, (*MODEL_FILES, *WEIGHTS, *LEFT_BEHIND)):
        return _matches(name, (TOKENIZER_CODE,))
    return True


def unread_files(folder: Path) -> list[str]:
    """The files of a folder that are neither read nor carried."""
    return sorted(
        name
        for name in files_of(folder)
        if not _matches(name, (CONFIG, "*.safetensors", "*.safetensors.index.json", *MODEL_FILES))
        and not _is_tokenizers(name)
    )


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a folder and of its folder of templates, by name.

    Raises:
        ValueError: for a link that leads out of the folder.
    """
    paths = [*folder.iterdir()]
    if (folder / TEMPLATES).is_dir():
        paths += (folder / TEMPLATES).iterdir()
    found = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    for path in found.values():
        check_inside(folder, path)
    return found


def check_inside(folder: Path, path: Path) -> None:
    """Raises ValueError for a link out of its folder, unless to the blobs of the hub's cache."""
    home, target = folder.resolve(), path.resolve()
    cached = home.parent.name == "snapshots" and target.parent == home.parents[1] / "blobs"
    if not target.is_relative_to(home) and not cached:
        raise ValueError(
            f"{path} is a link to {target}, out of its folder: put the file itself there."
        )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
