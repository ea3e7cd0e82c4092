"""GAIN-RL (arXiv:2506.02281): a window that slides over the problems, the most parallel ones first.

The problems are ranked once, by a column that `launch/select.py angle` writes. The centre of the
window moves by how many samples are right and how parallel the token vectors of the problems are:
the paper measures the latter on the policy of the moment, here it is that of the model that ranked.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.curricula.curriculum import Curriculum, Outcomes, Problems, State, Turn
from rljax.objectives.parts import check_field

# What the paper's numbers are of a set of 8,000 problems, in ranks.
_WIDTH, _STEP, _LARGEST = 8, 16, 8


def gain(
    *,
    subset_problems: int = 256,
    window_width: float | None = None,
    centre_step: float | None = None,
    largest_step: float | None = None,
    centre_slope: float = 2.0,
    target_accuracy: float = 0.5,
) -> Curriculum:
    """Subsets of problems around a centre that moves on as they are solved.

        P(rank) ~ exp(-((rank - mu) / width)^2 / 2), without replacement
        mu <- mu + clip(n tanh(a (accuracy - b)) + n tanh(a angle), 0, largest step)

    mu starts at 0 and moves after each subset, by the accuracy of its samples and the mean angle of
    its problems. It never moves back.

    Args:
        subset_problems: that are drawn at a time; all of them where there are fewer.
        window_width: in ranks; None: an eighth of the problems, as 1000 of 8000 in the paper.
        centre_step: n, in ranks; None: a sixteenth of the problems.
        largest_step: of the centre, in ranks; None: an eighth of the problems.
        centre_slope: a, of both terms.
        target_accuracy: b, share of right samples from which on the first term moves on.
    """
    check_field("subset_problems", subset_problems, lambda x: x >= 1, ">= 1")
    for name, value in (("window_width", window_width), ("centre_step", centre_step)):
        check_field(name, value, lambda x: x > 0, "> 0")
    check_field("largest_step", largest_step, lambda x: x > 0, "> 0")

    def size(problems: Problems) -> int:
        return min(subset_problems, problems.count)

    def first(problems: Problems, stream: Array) -> State:
        taken = jnp.int32(size(problems))  # a subset that is used up
        subset = jnp.zeros(size(problems), jnp.int32)
        return {"centre": jnp.float32(0), "subset": subset, "taken": taken} | nothing_seen()

    def moved(state: State, problems: Problems) -> Array:
        seen = jnp.maximum(state["samples"], 1.0)
        centre = next_centre(
            state["centre"],
            state["right"] / seen,
            state["angles"] / seen,
            centre_step=centre_step or problems.count / _STEP,
            largest_step=largest_step or problems.count / _LARGEST,
            centre_slope=centre_slope,
            target_accuracy=target_accuracy,
        )
        return jnp.where(state["samples"] > 0, centre, state["centre"])

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        many = size(problems)
        used_up = state["taken"] + turn.count > many
        centre = jnp.where(used_up, moved(state, problems), state["centre"])
        chances = window(problems.count, centre, window_width or problems.count / _WIDTH)
        # The largest of Gumbel noise plus logits are draws without replacement.
        noise = jax.random.gumbel(turn.key, (problems.count,))
        ranks = jax.lax.top_k(chances + noise, many)[1]
        order = jnp.argsort(-jnp.asarray(problems.difficulty), stable=True)
        subset = jnp.where(used_up, order[ranks].astype(jnp.int32), state["subset"])
        start = jnp.where(used_up, 0, state["taken"])
        index = jax.lax.dynamic_slice(subset, (start,), (turn.count,))
        seen = {
            name: jnp.where(used_up, zero, state[name]) for name, zero in nothing_seen().items()
        }
        taken = (start + turn.count).astype(jnp.int32)
        return index, {"centre": centre, "subset": subset, "taken": taken, **seen}

    reads = frozenset({"difficulty", "angles"})
    return Curriculum(first, take, observed, metrics, reads=reads, repeats=False)


def observed(state: State, problems: Problems, outcomes: Outcomes) -> State:
    """The state after some more samples of a subset; see `Curriculum.observe`."""
    present = outcomes.present.astype(float)
    angles = jnp.asarray(problems.angles)[outcomes.index][:, None] * present
    return state | {
        "samples": state["samples"] + present.sum(),
        "right": state["right"] + (outcomes.correct & outcomes.present).sum(),
        "angles": state["angles"] + angles.sum(),
    }


def metrics(state: State, problems: Problems) -> dict[str, Array]:
    """The centre, in ranks."""
    return {"centre": state["centre"]}


def nothing_seen() -> State:
    """The sums over the samples of a subset: how many, how many right, angles of their problems."""
    return {name: jnp.float32(0) for name in ("samples", "right", "angles")}


def next_centre(
    centre: Array,
    accuracy: Array,
    angle: Array,
    *,
    centre_step: float,
    largest_step: float,
    centre_slope: float,
    target_accuracy: float,
) -> Array:
    """The centre after a subset; fields as of `gain`.

    Args:
        centre: [] f32, in ranks.
        accuracy: [] f32, in [0, 1].
        angle: [] f32, mean cosine.
    """
    step = centre_step * jnp.tanh(centre_slope * (accuracy - target_accuracy))
    step += centre_step * jnp.tanh(centre_slope * angle)
    return centre + jnp.clip(step, 0.0, largest_step)


def window(count: int, centre: Array, width: float) -> Array:
    """[M] f32, log of the probability of each rank, normalised: no rank has probability 0."""
    distance = (jnp.arange(count) - centre) / width
    return jax.nn.log_softmax(-(distance**2) / 2)
