"""VADE (arXiv:2511.18902): a Beta posterior of each success rate, and Thompson sampling."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.curricula.curriculum import Curriculum, Outcomes, Problems, State, Turn
from rljax.objectives.parts import check_field

# What a problem of success rate p promises, and its mean under Beta(a, b).
INFORMATION = {
    "variance_room": lambda p: p * (1 - p) ** 2,
    "variance": lambda p: p * (1 - p),
}


def vade(
    *,
    chosen_decay: float = 0.2,
    other_decay: float = 0.999,
    information: str = "variance_room",
    posterior_draw: bool = True,
) -> Curriculum:
    """The B problems of the largest information gain at a drawn success rate.

        p_i ~ Beta(alpha_i + 1, beta_i + 1),   I_i = p_i (1 - p_i)^2
        chosen:  alpha <- chosen_decay alpha + right,  beta <- chosen_decay beta + wrong
        others:  alpha <- other_decay alpha,           beta <- other_decay beta

    The decays follow from the worked example of the paper's figure.

    Args:
        chosen_decay: of the counts of problems that were sampled: the policy has moved since.
        other_decay: of all other counts: problems that are not visited become open again.
        information: variance_room, p (1 - p)^2; or variance, p (1 - p).
        posterior_draw: draw p; else take its posterior mean.
    """
    for name, value in (("chosen_decay", chosen_decay), ("other_decay", other_decay)):
        check_field(name, value, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("information", information, INFORMATION.__contains__, f"one of {[*INFORMATION]}")

    def first(problems: Problems, stream: Array) -> State:
        return {name: jnp.zeros(problems.count) for name in ("right", "wrong")}

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        alpha, beta = state["right"] + 1, state["wrong"] + 1
        rate = jax.random.beta(turn.key, alpha, beta) if posterior_draw else alpha / (alpha + beta)
        # A problem that nobody knows ties with all others of its kind: no place comes first.
        tie = jax.random.uniform(jax.random.fold_in(turn.key, 1), (problems.count,))
        gain = INFORMATION[information](rate)
        order = jnp.lexsort((tie, -gain))
        return order[: turn.count].astype(jnp.int32), state

    def observe(state: State, problems: Problems, outcomes: Outcomes) -> State:
        right = (outcomes.correct & outcomes.present).sum(axis=1).astype(jnp.float32)
        wrong = (~outcomes.correct & outcomes.present).sum(axis=1).astype(jnp.float32)
        seen = outcomes.present.any(axis=1)
        chosen = jnp.zeros(problems.count, bool).at[outcomes.index].max(seen)
        decay = jnp.where(chosen, chosen_decay, other_decay)
        return {
            "right": (state["right"] * decay).at[outcomes.index].add(right),
            "wrong": (state["wrong"] * decay).at[outcomes.index].add(wrong),
        }

    def metrics(state: State, problems: Problems) -> dict[str, Array]:
        alpha, beta = state["right"] + 1, state["wrong"] + 1
        return {"posterior_success": (alpha / (alpha + beta)).mean()}

    return Curriculum(first, take, observe, metrics, repeats=False)
