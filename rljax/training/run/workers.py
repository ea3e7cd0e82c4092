"""The processes that score samples, and those of episodes: an environment's, or agents'."""

import importlib.util

from ml_collections import ConfigDict

from rljax.data.text_format import TextFormat
from rljax.environments.agents import Agents
from rljax.environments.stepping import Stepper
from rljax.processes.processes import Processes
from rljax.rewards.pool import Scorer

# Packages of the extra `serve`.
STACK = ("starlette", "uvicorn")


def make_workers(
    config: ConfigDict, text_format: TextFormat, processes: Processes
) -> tuple[Scorer, Stepper | None, Agents | None]:
    """Starts the processes of `config.scoring`, and of an environment or agents where there are.

    Args:
        config: of the run.
        text_format: of the run.
        processes: of the run; each one scores its share.

    Raises:
        ValueError: for rewards, an environment or agents that cannot work; no process is left then.
    """
    scoring = config.scoring
    scorer = Scorer(
        scoring.rewards,
        workers=scoring.workers,
        timeout_seconds=scoring.timeout_seconds,
        memory_mb=scoring.memory_mb,
        failure_reward=scoring.failure_reward,
        failed_samples=scoring.failed_samples,
        max_failed_share=scoring.max_failed_share,
        processes=processes,
    )
    try:
        _check_episodes(config, text_format, scorer)
        return scorer, _stepper(config, processes), _agents(config, processes)
    except BaseException:
        scorer.close()
        raise


def _check_episodes(config: ConfigDict, text_format: TextFormat, scorer: Scorer) -> None:
    """Raises ValueError for rewards that read episodes, or episodes of texts without turns."""
    name, agent = config.environment.name, config.environment.agent
    if not (name or agent):
        if scorer.composition.needs_episodes:
            raise ValueError(
                f"The rewards {scorer.composition.labels} read what became of an episode, and none "
                "is played (config.environment.name, config.scoring.rewards)."
            )
        return
    if text_format.template is None:
        raise ValueError(
            f"Episodes of {name or agent!r} are conversations, and the tokenizer has no chat "
            "template for them (config.tokenizer.chat_turn, "
            f"config.environment.{'name' if name else 'agent'})."
        )


def _agents(config: ConfigDict, processes: Processes) -> Agents | None:
    """The processes of agents; None where there are none.

    Raises:
        ValueError: for a run of several processes, a missing extra, or a missing agent.
    """
    given = config.environment
    if not given.agent:
        return None
    if processes.count > 1:
        raise ValueError(
            f"Agents play with one process, and the run has {processes.count}: requests that come "
            "at any time are not the same in all of them (config.environment.agent)."
        )
    missing = [name for name in STACK if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} is missing; a server for agents needs the extra 'serve': "
            "pip install 'rljax[serve]' (config.environment.agent)."
        )
    return Agents(
        given.agent,
        given.options.to_dict(),
        workers=given.agent_processes,
        seconds=given.agent_seconds,
        memory_mb=config.scoring.memory_mb,
    )


def _stepper(config: ConfigDict, processes: Processes) -> Stepper | None:
    """The processes of the environment; None where there is none."""
    given, scoring = config.environment, config.scoring
    if not given.name:
        return None
    return Stepper(
        given.name,
        given.options.to_dict(),
        workers=scoring.workers,
        timeout_seconds=given.timeout_seconds,
        memory_mb=scoring.memory_mb,
        processes=processes,
    )
