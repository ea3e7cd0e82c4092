"""What a frozen reference says of a stage's file of rows, computed once and kept in a folder.

    FOLDER/ADDRESS/cache.json      what it is of: model, layout of rows, rows
    FOLDER/ADDRESS/rows.npy        [M, 16] u8, a digest of each row's ids
    FOLDER/ADDRESS/NAME.npy        [M, ...] f32, one file for each array that the objective reads

The address is a hash of all that the numbers depend on, so that runs share a folder, and another
model, file, tokenizer, template or length has its own cache. Where FOLDER itself holds a
`cache.json`, that one is meant, and refused if it is of anything else.

With several processes the devices of all score, process 0 writes batch by batch, and every process
reads the rows of its steps from the files: none holds all of them, and all need to see the folder.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rljax.config.stage import Stage
from rljax.config.validate import plain
from rljax.data.batches import equal_batches
from rljax.data.feedback_survey import digest_of
from rljax.data.sources import place_of
from rljax.errors import blamed
from rljax.models.network import Params
from rljax.remarks import say_once
from rljax.training.collect.stage_rows import Read, budgets_of, rows_of_step
from rljax.training.run.context import Context, Record
from rljax.training.run.digests import parameters_digest
from rljax.training.update.rows import Rows

CACHE_FILE, ROWS_FILE = "cache.json", "rows.npy"

# Letters of a hash that name a cache.
ADDRESS = 16

# Arrays of records, by name; their leading axis is the record.
Score = Callable[[Sequence[Record]], Rows]


class ReferenceCache:
    """The arrays of all records of a source.

    Attributes:
        arrays: by name, [M, ...], in the order of the records.
    """

    def __init__(self, arrays: Rows) -> None:
        self.arrays = arrays

    def of(self, records: Sequence[Record]) -> Rows:
        """The arrays of some records, found by their ids."""
        ids = [record["id"] for record in records]
        return {name: np.asarray(array[ids]) for name, array in self.arrays.items()}


def reference_cache(
    context: Context,
    stage: Stage,
    reference: Params,
    records: Sequence[Record],
    read: Read,
    score: Score,
    size: int,
) -> ReferenceCache:
    """Reads the cache of a stage, or computes and writes it. All processes call it together.

    Args:
        context: of the stage.
        stage: with `data.reference_cache`.
        reference: all parameters of the frozen model.
        records: of the stage's file, those that are kept.
        read: how a record is read (data/pairs.py, data/feedback.py).
        score: what the reference says of records, as an update gets it.
        size: records of an update.

    Raises:
        ValueError: for a cache of another model or other rows, or one that cannot be read, also
            where process 0 has written it to a folder that this process does not see.
    """
    folder, digests = (
        Path(stage.data["reference_cache"]),
        row_digests(context, stage, records, read),
    )
    facts = {
        "model": model_facts(context, reference),
        "layout": layout_facts(context, stage),
        "rows": {"count": len(digests), "sha256": hashlib.sha256(digests).hexdigest()},
    }
    first = context.processes.is_first
    named = first and (folder / CACHE_FILE).is_file()
    place = folder / _address(facts)
    there = named or (first and (place / CACHE_FILE).is_file())
    # Process 0 looks for all: they must agree.
    named, there = context.processes.gather_json(f"{place.name} is there", [named, there])[0]
    place = folder if named else place
    field = f"config.{stage.name}.data.reference_cache"
    if there:
        say_once(f"the reference's log-probabilities are those of {place} ({field})")
    else:
        say_once(f"the reference scores {len(records)} rows once, for {place} ({field})")
        batches = _scored(records, score, size)
        if first:
            write_cache(place, facts, digests, batches)
        else:  # all devices score; process 0 keeps what they say
            collections.deque(batches, maxlen=0)
        context.processes.barrier(f"{place.name} written")
    check_rows(place, digests, lambda row: place_of(records, row), field)
    check_facts(place, facts, field)
    return ReferenceCache(_arrays(place, len(records), field))


def check_named_cache(
    context: Context, stage: Stage, records: Sequence[Record], read: Read
) -> None:
    """Refuses a cache of other rows, where the stage names a single one.

    It needs no model: nothing has been compiled yet.

    Raises:
        ValueError: as `reference_cache` does.
    """
    folder, field = Path(stage.data["reference_cache"]), f"config.{stage.name}.data.reference_cache"
    if (folder / CACHE_FILE).is_file():
        digests = row_digests(context, stage, records, read)
        check_rows(folder, digests, lambda row: place_of(records, row), field)
        check_facts(folder, {"layout": layout_facts(context, stage)}, field)


def model_facts(context: Context, reference: Params) -> dict[str, Any]:
    """What a model's numbers depend on: its parameters, and how it computes with them."""
    network = json.dumps(plain(dataclasses.asdict(context.network.config)), sort_keys=True)
    return {
        "parameters_sha256": parameters_digest(reference),
        "network_sha256": hashlib.sha256(network.encode()).hexdigest(),
    }


def layout_facts(context: Context, stage: Stage) -> dict[str, Any]:
    """How rows are laid out for the model, and which arrays are kept."""
    budgets = budgets_of(context.config, stage)
    return {
        "max_prompt_tokens": budgets.prompt,
        "max_completion_tokens": budgets.answer,
        "share_prompts": stage.batch.share_prompts,
        "completions_per_row": stage.sequences_together(shared=False),
        "likelihood": stage.objective.choices["likelihood"],
        "arrays": sorted(name for name in stage.objective.inputs if name.startswith("ref_")),
    }


def row_digests(
    context: Context, stage: Stage, records: Sequence[Record], read: Read
) -> np.ndarray:
    """A digest of the ids of each row, as the stage reads it: [M, 16] u8."""
    found = bytearray()
    for index in range(len(records)):
        (row,) = rows_of_step(context, stage, [{**records[index], "id": index}], read)
        found += digest_of(row.prompt, *row.answers().values())
    return np.frombuffer(bytes(found), np.uint8).reshape(len(records), -1)


def check_rows(place: Path, digests: np.ndarray, where: Callable[[int], str], field: str) -> None:
    """Raises ValueError where a cache is of other rows, with the first one that differs.

    Args:
        place: the folder of the cache.
        digests: of the rows at hand.
        where: where a row stands, by its index.
        field: the config field.
    """
    kept = _load(place / ROWS_FILE, field)
    if kept.shape != digests.shape:
        raise ValueError(
            f"{place} is of {len(kept)} rows, and there are {len(digests)}: it is of another file "
            f"or other rows of it are left out ({field})."
        )
    other = np.flatnonzero((kept != digests).any(axis=1))
    if len(other):
        raise ValueError(
            f"{place} is of other rows: {where(int(other[0]))} is the first of {len(other)} that "
            f"differ. The file, the tokenizer or the template is another one ({field})."
        )


def check_facts(place: Path, facts: dict[str, Any], field: str) -> None:
    """Raises ValueError where a cache is of another model or of another layout of rows.

    Args:
        place: the folder of the cache.
        facts: by "model" and "layout", what is at hand.
        field: the config field.
    """
    with blamed(str(place / CACHE_FILE), OSError, ValueError, field=field):
        kept = json.loads((place / CACHE_FILE).read_text(encoding="utf-8"))
    for part, what in (("layout", "of another layout of rows"), ("model", "of another model")):
        before, now = kept.get(part, {}), facts.get(part)
        names = [name for name in now or {} if before.get(name) != now[name]]
        if names:
            found = "; ".join(f"{name} is {now[name]}, not {before.get(name)}" for name in names)
            raise ValueError(
                f"{place} is {what}: {found}. Name the folder that is to hold caches, and the one "
                f"that fits is found or made ({field})."
            )


def _address(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ADDRESS]


def _scored(records: Sequence[Record], score: Score, size: int) -> Iterator[Rows]:
    """What the reference says of all records, in batches of the shape that updates have."""
    for first, index in zip(itertools.count(0, size), equal_batches(len(records), size)):
        found = score([{**records[place], "id": place} for place in index])
        # The last batch is filled up with other records.
        yield {name: array[: len(records) - first] for name, array in found.items()}


def write_cache(
    place: Path, facts: dict[str, Any], digests: np.ndarray, batches: Iterable[Rows]
) -> None:
    """Writes a cache batch by batch; the folder appears only when it is complete.

    Another run may have written it meanwhile, with the same content: that one stays.

    Args:
        place: folder of the cache.
        facts: that `cache.json` holds.
        digests: [M, 16] u8, of the rows.
        batches: arrays by name, which lead with M rows in all.

    Raises:
        OSError: where the folder cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{place.name}.part-", dir=place.parent))
    part.chmod(0o755)
    np.save(part / ROWS_FILE, digests)
    with contextlib.ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for batch in batches:
            for name, array in batch.items():
                if name not in files:
                    files[name] = stack.enter_context((part / f"{name}.npy").open("wb"))
                    _write_header(files[name], array, len(digests))
                files[name].write(np.ascontiguousarray(array).tobytes())
    (part / CACHE_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    try:
        os.replace(part, place)
    except OSError:
        if not (place / CACHE_FILE).is_file():
            raise
        shutil.rmtree(part)


def _write_header(file: BinaryIO, array: np.ndarray, rows: int) -> None:
    """What NumPy's format says first of an array with so many rows like these."""
    described = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": (rows, *array.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, described)


def _arrays(place: Path, count: int, field: str) -> Rows:
    names = sorted(path.stem for path in place.glob("*.npy") if path.name != ROWS_FILE)
    arrays = {name: _load(place / f"{name}.npy", field) for name in names}
    wrong = [name for name, array in arrays.items() if len(array) != count]
    if wrong or not arrays:
        raise ValueError(
            f"{place} holds {len(arrays)} arrays, {wrong} of another length than {count}: it is "
            f"damaged; remove it ({field})."
        )
    return arrays


def _load(path: Path, field: str) -> np.ndarray:
    with blamed(str(path), OSError, ValueError, field=field):
        return np.load(path, mmap_mode="r", allow_pickle=False)
