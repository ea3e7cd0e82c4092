"""Annotator: who wrote which sample, what it is compared with, and whose samples are learned."""

import numpy as np

from rljax.config.stage import Stage
from rljax.training.collect.experience import Annotations
from rljax.training.collect.sampled import Drawn
from rljax.training.run.context import Context


class EpisodeRoles:
    """Roles and groups of the samples of episodes with several players."""

    def __init__(self, context: Context, stage: Stage) -> None:
        """Reads the roles.

        Args:
            context: with an environment of several players.
            stage: its batch says how many episodes a problem has.
        """
        settings, stepper = context.config.environment, context.stepper
        self.roles, self.players = stepper.roles, stepper.players
        self.per_prompt = stage.batch.samples_per_prompt
        self.trained = trained_roles(settings.trained_roles.get(stage.name), self.roles)
        self.apart = np.isin(self.roles, list(settings.episode_roles))

    def __call__(self, drawn: Drawn) -> Annotations:
        """Says it of N samples, which stand in the order of problems, episodes and players.

        Returns:
            `roles` [N] i32; `group_ids` [N] i32, equal for samples of one role and one problem, or
            of one role and one episode where `environment.episode_roles` says so; `mask` [N, T]
            bool, empty on roles that are not trained; and the mean reward of each role.
        """
        samples, scores = drawn.samples, drawn.scores
        roles = np.array([self.roles.index(each["role"]) for each in samples.episodes], np.int32)
        row, count = np.arange(len(roles)), len(self.roles)
        episodes = len(roles) // self.players
        key = np.where(self.apart[roles], row // self.players, episodes + row // self.per_prompt)
        mask = samples.flat("mask") & ~scores.left_out[:, None]
        written = mask.any(axis=1)
        means = {
            f"role_reward/{name}": float(scores.total[own].mean())
            for place, name in enumerate(self.roles)
            if (own := written & (roles == place)).any()
        }
        arrays = {
            "roles": roles,
            "group_ids": (key * count + roles).astype(np.int32),
            "mask": mask & np.isin(roles, self.trained)[:, None],
        }
        return Annotations(arrays, metrics=means, seconds={})


def trained_roles(named: tuple[str, ...] | None, roles: tuple[str, ...]) -> list[int]:
    """The numbers of the roles that a stage trains: all of them where it names none."""
    return [number for number, role in enumerate(roles) if not named or role in named]
