"""Where problems and a stage's own data come from: fields that each source reads."""

from ml_collections import ConfigDict

from rljax.config.schema import DATA
from rljax.config.stage import Stage
from rljax.errors import shown

GYM_FIELDS = (
    "tasks",
    "prompt_pattern",
    "answer_template",
    "train_seed",
    "heldout_seed",
    "train_size",
    "worked_share",
)
SYMBOL_FIELDS = ("tasks", "train_seed", "heldout_seed", "train_size")  # tasks have their own
FILE_FIELDS = ("path", "heldout_path", "prompt_column", "reference_column", "overlong")

# Kind of problems -> the fields of config.data that only some kinds read.
KIND_FIELDS = {
    "environment": ("train_seed", "heldout_seed", "train_size"),
    "reasoning_gym": GYM_FIELDS,
    "symbols": SYMBOL_FIELDS,
    "jsonl": FILE_FIELDS,
    "parquet": FILE_FIELDS,
}
FILE_SOURCES = ("jsonl", "parquet")


def read_by_kind(kind: str) -> list[str]:
    """The fields of config.data that problems of this kind read."""
    some = {name for fields in KIND_FIELDS.values() for name in fields}
    return [name for name in DATA if name not in some or name in KIND_FIELDS[kind]]


def check_data(data: ConfigDict) -> None:
    """Refuses fields that problems of this kind never read, where they are not the default."""
    read = read_by_kind(data.kind)
    for name in DATA:
        if name not in read and data[name] != DATA[name].default:
            raise ValueError(
                f"config.data.{name}={shown(data[name])} is never read with kind={data.kind!r}; "
                f"fields that are: {', '.join(sorted(read))} (config.data.{name})."
            )


def check_source(stage: Stage, where: str) -> None:
    """Raises ValueError unless the family can read the stage's source and files have a name.

    Args:
        stage: of a family with a choice of sources.
        where: path of the section `data` of the stage.
    """
    source, path = stage.data["source"], stage.data["path"]
    known = stage.objective.description.sources
    if source not in known:
        raise ValueError(
            f"Method {stage.objective.method.name!r} cannot read source={source!r}; known: "
            f"{', '.join(map(repr, known))} ({where}.source)."
        )
    from_file = source in FILE_SOURCES
    if from_file and not path:
        raise ValueError(f"A {source!r} source needs a file ({where}.path).")
    if path and not from_file:
        raise ValueError(
            f"{where}.path={path!r} is never read with source={source!r}; set source='jsonl' or "
            f"'parquet' ({where}.source, {where}.path)."
        )
