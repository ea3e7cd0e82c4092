"""The processes that score samples, and those of the environment that answers them."""

from ml_collections import ConfigDict

from rljax.data.text_format import TextFormat
from rljax.environments.stepping import Stepper
from rljax.processes.processes import Processes
from rljax.rewards.pool import Scorer


def make_workers(
    config: ConfigDict, text_format: TextFormat, processes: Processes
) -> tuple[Scorer, Stepper | None]:
    """Starts the processes of `config.scoring`, and those of an environment where there is one.

    Args:
        config: of the run.
        text_format: of the run.
        processes: of the run; each one scores its share.

    Raises:
        ValueError: for rewards or an environment that cannot work; no process is left then.
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
        return scorer, _stepper(config, text_format, scorer, processes)
    except BaseException:
        scorer.close()
        raise


def _stepper(
    config: ConfigDict, text_format: TextFormat, scorer: Scorer, processes: Processes
) -> Stepper | None:
    """The processes of the environment; None where there is none.

    Raises:
        ValueError: for rewards that read episodes, or episodes of texts without turns.
    """
    given, scoring = config.environment, config.scoring
    if not given.name:
        if scorer.composition.needs_episodes:
            raise ValueError(
                f"The rewards {scorer.composition.labels} read what became of an episode, and none "
                "is played (config.environment.name, config.scoring.rewards)."
            )
        return None
    if text_format.template is None:
        raise ValueError(
            f"Episodes of {given.name!r} are conversations, and the tokenizer has no chat template "
            "for them (config.tokenizer.chat_turn, config.environment.name)."
        )
    return Stepper(
        given.name,
        given.options.to_dict(),
        workers=scoring.workers,
        timeout_seconds=given.timeout_seconds,
        memory_mb=scoring.memory_mb,
        processes=processes,
    )
