"""No state with a NaN or an infinity is evaluated or saved."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.errors import StoppedError
from rljax.training.update.state import TrainState


class NonFiniteError(StoppedError):
    """Training broke down: a loss, a gradient, a parameter or a moment is not finite."""


def make_guard(stage: str) -> Callable[[TrainState, int], None]:
    """check(state, step) raises NonFiniteError for the first array with a NaN or an infinity.

    The state is read once on its devices; one flag for each array comes to the host.
    """

    @jax.jit
    def finite(state: TrainState) -> Array:
        return jnp.stack([_finite(leaf) for _, leaf in guarded(state)])

    def check(state: TrainState, step: int) -> None:
        flags = np.asarray(finite(state))
        if flags.all():
            return
        first = guarded(state)[int(np.argmin(flags))][0]
        when = f"after step {step}" if step else "before the first step"
        raise NonFiniteError(
            f"{first} of stage {stage!r} is not finite {when}, as are {int((~flags).sum())} of the "
            f"{len(flags)} arrays of parameters and optimizer. They are not saved; the checkpoints "
            f"stay as they are. Look at config.{stage}.optimizer (learning_rate, b1, b2, epsilon) "
            "and at what the stage starts from, and train in a new --workdir."
        )

    return check


def guarded(state: TrainState) -> list[tuple[str, Array]]:
    """What has to be finite, with its path: parameters, optimizer, those of a critic beside it."""
    found = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for part in ("params", "optimizer_state")
        for path, leaf in jax.tree_util.tree_leaves_with_path({part: getattr(state, part)})
    ]
    for name, carried in state.carried.items():
        if isinstance(carried, TrainState):
            found += [(f"{name}/{path}", leaf) for path, leaf in guarded(carried)]
    return found


def _finite(leaf: Array) -> Array:
    """[] bool; integers and keys are finite."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.bool_(True)
    return jnp.isfinite(leaf).all()
