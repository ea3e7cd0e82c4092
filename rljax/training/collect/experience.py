"""Experience: what the side that samples hands to the side that learns.

    prompt source ─► rollout source ─► rewards ─► annotators ─► Experience ─► family ─► batches
                          ▲                                                               │
                          └──────── Policy: parameters with their version ◄───────────────┘

A *source* plays one step after the other. It is told the policy and its own state, and nothing
else: so whether it runs in turn with the updates, or ahead of them, is the loop's business. Its
state is NumPy arrays, and is saved with every checkpoint.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jax import Array

from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.training.collect.prompts import State
from rljax.training.collect.rollouts import Samples
from rljax.training.learner.group import Group
from rljax.training.run.context import Record


class Policy(NamedTuple):
    """What samples are drawn with."""

    params: Params  # all parameters, in the trainer's layout
    version: int  # updates of the stage that they have seen
    temperature_slopes: Array | None = None  # [4] f32 (`sloped_temperature`)
    critic: Params | None = None  # of the critic, where prompts are chosen by what it expects
    weights: Params | None = None  # the sampler's copy, where it was made before (training/ahead/)


class Demonstrations(NamedTuple):
    """A worked solution of each of B problems, as completions."""

    tokens: np.ndarray  # [B, T'] i32
    mask: np.ndarray  # [B, T'] bool
    scores: np.ndarray  # [B] f32, what the verifier says of them


class Annotations(NamedTuple):
    """What an annotator adds to the samples of a step."""

    arrays: dict[str, np.ndarray]  # [N] and [N, T] by name (objectives/arrays.py)
    metrics: dict[str, float]
    seconds: dict[str, float]  # by phase: sampling, scoring


class Experience(NamedTuple):
    """One step's experience, on the host. What is read from disk has records alone."""

    records: Sequence[Record]  # problems, pairs, or rows of demonstrations
    samples: Samples | None = None
    scores: Scores | None = None  # of the N samples
    demonstrations: Demonstrations | None = None
    guided: Group | None = None  # samples behind hints, rows of the same prompts
    arrays: dict[str, np.ndarray] = {}  # noqa: RUF012 - by annotators; they replace others
    metrics: dict[str, float] = {}  # noqa: RUF012
    seconds: dict[str, float] = {}  # noqa: RUF012 - by phase


class ExperienceSource(Protocol):
    """Makes or reads the experience of a stage, step by step."""

    def first_state(self) -> State:
        """The state before the first step."""

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The experience of a step (from 1), and the state after it."""
