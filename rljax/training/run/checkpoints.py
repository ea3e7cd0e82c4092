"""Checkpoints of one stage, through orbax: asynchronous, atomic, keep-n and best.

A checkpoint is read only after the digests of all its files were compared (run/digests.py).
"""

import contextlib
import json
import logging
import math
import operator
import os
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from rljax.errors import reason
from rljax.models.lora import flatten, has_adapters, split_frozen, unflatten
from rljax.models.network import Network, Params
from rljax.training.run.digests import damage, write_digests
from rljax.training.run.phases import mark, phase
from rljax.training.run.storage import Folder, absolute, move, saved_steps, unfinished
from rljax.training.update.state import TrainState, placed


class _NotOfOrbax(logging.Filter):
    """Orbax logs the traceback of an error that it also raises; the user is told of it once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


logging.getLogger("absl").addFilter(_NotOfOrbax())


def _quiet_about_late_answers(hook: Callable[..., None]) -> Callable[..., None]:
    """`sys.excepthook` without the writes that a failed save, long since told of, leaves behind."""

    def quiet(kind: type[BaseException], error: BaseException, *trace: Any) -> None:
        if not (kind is RuntimeError and str(error) == "Event loop is closed"):
            hook(kind, error, *trace)

    return quiet


sys.excepthook = _quiet_about_late_answers(sys.excepthook)

NOTE_FILE = "data.json"  # as orbax calls it

# Item of a checkpoint: the state of the source of experience (training/collect/experience.py).
SOURCE = "source"

# Entry of it: experience that waits, as bytes; a checkpoint may hold any number of them.
QUEUE = "queue"

# The best metric of a checkpoint that was not evaluated: below every real one, a share.
NOT_EVALUATED = -1.0


class Judged(NamedTuple):
    """A checkpoint that was evaluated."""

    value: float  # of the best metric
    step: int


class Checkpoints:
    """WORKDIR/checkpoints/STAGE/STEP: TrainState, state of the experience's source, JSON note.

    A save returns once the state is copied to the host; the files are written and hashed in the
    background under a temporary name and renamed when complete, so that a killed run leaves whole
    ones only.
    """

    def __init__(self, folder: Folder, *, keep: int, best_metric: str = "accuracy_greedy") -> None:
        """Opens the folder, making it if needed; `keep` latest and the best are kept.

        Args:
            folder: of the stage.
            keep: latest checkpoints.
            best_metric: a share of held-out problems by which the best one is known.

        Raises:
            ValueError: if the metric of a checkpoint in it cannot be read.
        """
        self.folder, self.best_metric = absolute(folder), best_metric
        judged = operator.itemgetter(best_metric)
        policies = ocp.training.preservation_policies
        keep_policy = policies.AnyPreservationPolicy(
            [policies.LatestN(keep), policies.BestN(get_metric_fn=judged, n=1)]
        )
        _check_metrics(self.folder)
        self.manager = ocp.training.Checkpointer(
            self.folder,
            context=_context(written=self._hash_unfinished),
            preservation_policy=keep_policy,
            cleanup_tmp_directories=True,  # what a killed run was writing
        )

    def _hash_unfinished(self) -> None:
        """Adds the digests to what is being written; orbax calls it before it renames."""
        with phase("digests"):
            for step in unfinished(self.folder):
                write_digests(step)
        mark("rename")

    def save(
        self,
        step: int,
        state: TrainState,
        note: dict[str, Any],
        judged: float | None,
        source_state: dict[str, Any] | None = None,
    ) -> None:
        """Starts to save; does nothing if the step is already there.

        Args:
            step: of the stage.
            state: after it.
            note: kept beside it, JSON-able.
            judged: its best metric; None where it was not evaluated.
            source_state: of the source of experience, NumPy arrays; it may have none.
        """
        if step in self.steps():
            return
        if judged is None or math.isnan(judged):  # not evaluated, or without a verdict
            judged = NOT_EVALUATED
        items = {"state": state, "note": note}
        if source_state:
            items[SOURCE] = jax.tree.map(np.asarray, source_state)
        with self._writing():
            self.manager.save_checkpointables_async(
                step,
                items,
                force=True,  # whatever orbax's own policy of when to save would say
                metrics={self.best_metric: judged},
            )

    def steps(self) -> list[int]:
        """Those that are kept, from the first to the last."""
        return [checkpoint.step for checkpoint in self.manager.checkpoints]

    def complete(self) -> list[int]:
        """Those whose folders are there; while another one is written, in any thread."""
        return saved_steps(self.folder)

    def latest(self) -> int | None:
        """The last complete step."""
        return max(self.steps(), default=None)

    def best(self) -> Judged | None:
        """The evaluated checkpoint with the highest best metric of those kept; of equals, the last.

        None where none of them was evaluated.
        """
        judged = [
            Judged(each.metrics[self.best_metric], each.step)
            for each in self.manager.checkpoints
            if each.metrics and each.metrics[self.best_metric] > NOT_EVALUATED
        ]
        return max(judged, default=None)

    def note(self, step: int) -> dict[str, Any]:
        """The note of a step."""
        return read_note(self.folder / str(step))

    def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Reads a state into the shapes and shardings of `abstract`, and its note.

        Raises:
            ValueError: if the checkpoint is damaged or holds other shapes.
        """
        where = self.folder / str(step)
        check_undamaged(where)
        try:
            found = self.manager.checkpointables_metadata(step).metadata.get("state")
            if found is None:
                raise FileNotFoundError("the description of its arrays is missing.")
            _check_shapes(found, abstract, where)
            wanted = {"state": abstract, "note": None}
            restored = self.manager.load_checkpointables(step, wanted)
        except MismatchError:
            raise
        except Exception as error:  # orbax raises many kinds; to the user they are one
            raise _unreadable(where, error) from error
        return restored["state"], restored["note"]

    def source_state(self, step: int, first: dict[str, Any]) -> dict[str, Any]:
        """Reads the state of the source of experience.

        Args:
            step: of the stage.
            first: its first state, whose arrays say what is expected.

        Raises:
            ValueError: if it is damaged, missing or of another shape.
        """
        if not first:
            return first
        where, first = self.folder / str(step), jax.tree.map(np.asarray, first)
        check_undamaged(where)
        try:
            found = self.manager.checkpointables_metadata(step).metadata.get(SOURCE)
            if found is None:
                raise MismatchError(
                    f"The checkpoint {where} does not say which prompts were taken: it has no "
                    f"folder {SOURCE!r}, as an older version wrote it. Start another --workdir "
                    "from its parameters (config.model.init_from)."
                )
            fields = "config.data, config.<stage>.batch, config.<stage>.sampling"
            if QUEUE in first and QUEUE in found:
                first = {**first, QUEUE: np.zeros(found[QUEUE].shape, np.uint8)}
            _check_shapes(found, first, where, "source of experience", fields)
            return self.manager.load_checkpointables(step, {SOURCE: first})[SOURCE]
        except MismatchError:
            raise
        except Exception as error:  # orbax raises many kinds; to the user they are one
            raise _unreadable(where, error) from error

    def wait(self) -> None:
        """Blocks until everything is on disk.

        Raises:
            ValueError: if it could not be written.
        """
        with self._writing():
            self.manager.wait()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What goes wrong in the background is told by the next call."""
        try:
            yield
        except Exception as error:  # orbax raises many kinds; to the user they are one
            raise ValueError(
                f"A checkpoint in {self.folder} could not be written ({reason(error)}): make room, "
                "and give the same command again (--workdir)."
            ) from error

    def close(self) -> None:
        """Finishes writing and releases the folder."""
        with self._writing():
            self.manager.close()


def holds_adapters(where: Path) -> bool:
    """Whether a checkpoint has no more than adapters, and heads, on a frozen base."""
    return has_adapters(stored_params(where))


def check_params(where: Path, network: Network) -> None:
    """Raises ValueError unless the checkpoint's parameters are those of the network's state."""
    expected, _ = split_frozen(network.shapes)
    _check_shapes({"params": stored_params(where)}, {"params": expected}, where)


def read_note(where: Path) -> dict[str, Any]:
    """The note of a checkpoint, given the folder of its step.

    Orbax wrote it; what it loads all processes must load together, and a note is also read by one.
    """
    check_undamaged(where)
    try:
        return json.loads((where / "note" / NOTE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(where, error) from error


def restore_params(
    where: Path,
    network: Network,
    mesh: Mesh,
    paths: Collection[tuple[str, ...]] | None = None,
) -> Params:
    """Reads only the parameters of a checkpoint, straight into their sharding.

    Args:
        where: the folder of one step.
        network: whose shapes the parameters must have; with adapters, those of its state.
        mesh: to place them on; need not be the one they were saved from.
        paths: of the parameters that are read; by default all.

    Raises:
        ValueError: if the checkpoint is damaged or holds other shapes.
    """
    check_params(where, network)
    shapes, shardings = (split_frozen(t)[0] for t in (network.shapes, network.shardings(mesh)))
    wanted = flatten(jax.tree.map(placed, shapes, shardings))
    if paths is not None:
        wanted = {path: wanted[path] for path in paths}
    item = {"params": unflatten(wanted)}
    try:
        with _context(partial=True):
            return ocp.load(where, item, checkpointable_name="state")["params"]
    except Exception as error:  # orbax raises many kinds; to the user they are one
        raise _unreadable(where, error) from error


def stored_params(where: Path) -> Any:
    """The description of a checkpoint's parameters, nested as they are; no array is restored."""
    check_undamaged(where)
    try:
        return ocp.metadata(where, checkpointable_name="state").metadata["params"]
    except Exception as error:
        raise _unreadable(where, error) from error


def skip_damaged(folder: Folder, aside: Folder) -> list[str]:
    """Moves damaged checkpoints of a stage away, so that the latest one left is whole.

    A run that goes on from an earlier step makes the later ones again, bit for bit.

    Args:
        folder: of the stage.
        aside: where damaged ones go.

    Returns:
        A line for each that was moved.

    Raises:
        ValueError: if there are checkpoints and none of them is whole; nothing is moved.
    """
    steps = saved_steps(folder)
    damaged: dict[int, str] = {}
    while steps and (found := damage(folder / str(steps[-1]))):
        damaged[steps.pop()] = found
    if damaged and not steps:
        step = max(damaged)
        raise _damaged(folder / str(step), damaged[step])
    lines = []
    for step, why in damaged.items():
        place = aside / folder.name / str(step)
        move(folder / str(step), place)  # in the place of an earlier one of this step
        lines.append(
            f"The checkpoint {folder / str(step)} is damaged ({why}): it was moved to {place}, and "
            f"the run goes on from step {steps[-1]}."
        )
    return lines


def check_undamaged(where: Path) -> None:
    """Raises ValueError unless the files of a checkpoint are those that were written.

    Of several processes the first one reads them for all: an error of it ends the others too.
    """
    if jax.process_index() == 0 and (found := damage(where)):
        raise _damaged(where, found)


def _context(*, partial: bool = False, written: Callable[[], None] | None = None) -> ocp.Context:
    """How checkpoints are written and read: a note is a JSON file, not a tree of arrays.

    Args:
        partial: whether arrays that are not asked for may be left out.
        written: called when all files of a checkpoint are written, before it gets its name.
    """
    handlers = ocp.handlers.local_registry()
    handlers.add(ocp.handlers.JsonHandler, checkpointable_name="note")
    context = ocp.Context()
    context.checkpointables.registry = handlers
    context.pytree.loading.partial_load = partial
    context.async_options.post_finalization_callback = written
    return context


class MismatchError(ValueError):
    """A checkpoint whose arrays are not those of this config."""


def _check_metrics(folder: Folder) -> None:
    """Orbax reads these of every checkpoint as it opens the folder."""
    for path in sorted(folder.glob("*/metrics/metrics")):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            raise _unreadable(path.parents[1], error) from error


def _check_shapes(
    found: Any,
    abstract: Any,
    where: Path,
    what: str = "model and optimizer",
    fields: str = "config.model, config.<stage>.optimizer",
) -> None:
    """Compares stored and expected shapes and types before anything is read."""

    def shapes(tree: Any) -> dict[str, str]:
        return {
            _plain_path(path): f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            if hasattr(leaf, "shape")
        }

    have, want = shapes(found), shapes(abstract)
    wrong = [
        f"{name}: stored {have.get(name, 'nothing')}, expected {want.get(name, 'nothing')}"
        for name in sorted(set(have) | set(want), key=lambda name: (name[:6] != "params", name))
        if have.get(name) != want.get(name)
    ]
    if wrong:
        listed = "\n  ".join(wrong[:20])
        raise MismatchError(
            f"The checkpoint {where} does not fit this config's {what}:\n  {listed}\n"
            f"Use the config it was made with, or another --workdir ({fields})."
        )


def _plain_path(path: tuple) -> str:
    """A tree path as text, the same for dicts, dataclasses, tuples and named tuples."""
    return "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)


def _unreadable(where: Path, error: Exception) -> ValueError:
    text = str(error).strip().splitlines()
    return _damaged(where, f"{type(error).__name__}: {text[0][:300] if text else ''}")


def _damaged(where: Path, why: str) -> ValueError:
    return ValueError(
        f"The checkpoint {where} cannot be read ({why}). Delete that folder to continue from the "
        "one before it, or choose another --workdir."
    )
