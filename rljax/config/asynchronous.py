"""Whether the samples of a config's stages may be of older weights (config.asynchronous)."""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from rljax.config.curriculum import OF_PROMPTS
from rljax.config.schema import ASYNCHRONOUS
from rljax.config.stage import Stage
from rljax.registry import FAMILIES, METHODS

FIELD = "config.asynchronous"

# Choice -> the options of it that make up for samples of older weights; None: all but "none".
CORRECTING: Mapping[str, tuple[str, ...] | None] = {
    "denominator": ("behavior",),
    "correction": None,
    "rejection": None,
    "selection": ("second_moment",),
}

# Fields that a run without a sampler ahead reads too.
ALWAYS_READ = ("max_staleness", "sampler_devices", "offload_optimizer")


def runs_ahead(config: ConfigDict) -> bool:
    """Whether stages that sample have a sampler of their own beside the trainer."""
    return config.asynchronous.max_staleness > 0 or config.asynchronous.sampler_devices > 0


def check_asynchronous(config: ConfigDict, stages: Sequence[Stage]) -> None:
    """Raises ValueError for settings that cannot work, naming the fields.

    Args:
        config: complete.
        stages: resolved.
    """
    given = config.asynchronous
    if not runs_ahead(config):
        _check_unread(given)
        return
    staleness = given.max_staleness
    if 0 < given.queue_steps < staleness:
        raise ValueError(
            f"queue_steps={given.queue_steps} is shorter than max_staleness={staleness}: the "
            "sampler would never be that far ahead. Set it to 0, or to max_staleness or more "
            f"({FIELD}.queue_steps, {FIELD}.max_staleness)."
        )
    if given.transfer_folder and given.transfer != "storage":
        raise ValueError(
            f"transfer_folder={given.transfer_folder!r} is never read with transfer="
            f"{given.transfer!r}: set transfer='storage' ({FIELD}.transfer_folder)."
        )
    sampling = [stage for stage in stages if stage.online]
    if not sampling:
        names = ", ".join(f"{stage.name!r} ({stage.objective.method.name})" for stage in stages)
        raise ValueError(
            f"No stage samples its training data while it learns: {names}. A sampler ahead has "
            f"nothing to do; set max_staleness=0 and sampler_devices=0 ({FIELD}.max_staleness)."
        )
    if config.scoring.workers == 0:
        raise ValueError(
            "workers=0 scores in the main thread, where time limits work, and a sampler ahead "
            "scores beside it: set at least 1 (config.scoring.workers, "
            f"{FIELD}.max_staleness)."
        )
    for stage in sampling:
        _check_source(stage)
        if given.partial_tokens:
            _check_pieces(stage, given)
        if staleness and not given.allow_uncorrected:
            _check_corrected(stage, staleness)


def _check_unread(given: ConfigDict) -> None:
    """Without a sampler ahead most fields are never read."""
    for name, field in ASYNCHRONOUS.items():
        if name not in ALWAYS_READ and given[name] != field.default:
            raise ValueError(
                f"{name}={given[name]!r} is never read with max_staleness=0 and sampler_devices=0 "
                f"({FIELD}.{name}, {FIELD}.max_staleness)."
            )


def _check_source(stage: Stage) -> None:
    """A sampler ahead has its weights, and nothing else of the trainer."""
    objective, where = stage.objective, f"config.{stage.name}"
    method = objective.method.name
    if not objective.description.ahead:
        families = ", ".join(name for name, record in FAMILIES.items() if record.ahead)
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: method {method!r} is of the family "
            f"{objective.family!r}, whose samples are of the policy that learns; families that can "
            f"are: {families} ({where}.method, {FIELD}.max_staleness)."
        )
    if "start_values" in objective.inputs:
        advantage = objective.choices["advantage"]
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: advantage={advantage!r} takes values of "
            "states by further samples and scores of the trainer's policy "
            f"({where}.objective.advantage, {FIELD}.max_staleness)."
        )
    if objective.choices.get("allocation") == "by_variance":
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: allocation='by_variance' takes gradients "
            f"of the trainer's policy ({where}.objective.allocation, {FIELD}.max_staleness)."
        )
    if objective.choices.get("value_target") == OF_PROMPTS:
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: curriculum="
            f"{objective.choices['curriculum']!r} reads the trainer's critic "
            f"({where}.objective.curriculum, {FIELD}.max_staleness)."
        )
    if "answer_logprobs" in objective.inputs:
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: answer_reward="
            f"{objective.choices['answer_reward']!r} is a score by the trainer's policy "
            f"({where}.objective.answer_reward, {FIELD}.max_staleness)."
        )
    if "base_scores" in objective.inputs:
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: advantage="
            f"{objective.choices['advantage']!r} compares with answers of the stage's start, whose "
            f"weights the sampler has not ({where}.objective.advantage, {FIELD}.max_staleness)."
        )
    if "guide" in stage.models:
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: its guide policy samples on the trainer's "
            f"devices ({where}.models.guide, {FIELD}.max_staleness)."
        )
    if "reward" in stage.models:
        raise ValueError(
            f"Stage {stage.name!r} cannot sample ahead: its reward model runs on the trainer's "
            f"devices ({where}.models.reward, {FIELD}.max_staleness)."
        )


def _check_pieces(stage: Stage, given: ConfigDict) -> None:
    """Samples that pause are whole completions, and nothing is decided before they are complete."""
    where, choices = f"config.{stage.name}.objective", stage.objective.choices
    needed = {
        "curriculum": "shuffled",
        "allocation": "fixed",
        "demonstrations": "none",
        "rollouts": "whole",
        "group_filter": "none",
        "sampling_temperature": "constant",
    }
    for name, option in needed.items():
        if choices[name] != option:
            raise ValueError(
                f"partial_tokens={given.partial_tokens} pauses whole completions, and {name}="
                f"{choices[name]!r}: {name} must be {option!r}, or partial_tokens 0 "
                f"({FIELD}.partial_tokens, {where}.{name})."
            )
    if "greedy_scores" in stage.objective.inputs:
        raise ValueError(
            f"partial_tokens={given.partial_tokens} pauses samples, and advantage="
            f"{choices['advantage']!r} compares them with a greedy one of the same weights: set it "
            f"to 0 ({FIELD}.partial_tokens, {where}.advantage)."
        )
    if given.schedule == "fixed" and given.max_staleness < 2:
        raise ValueError(
            f"partial_tokens={given.partial_tokens} with max_staleness={given.max_staleness}: "
            "newer weights for the later pieces need schedule='latest' or a max_staleness of 2 or "
            f"more ({FIELD}.partial_tokens, {FIELD}.max_staleness)."
        )


def is_corrected(choices: Mapping[str, str]) -> bool:
    """Whether one of these choices makes up for samples of older weights."""
    for choice, options in CORRECTING.items():
        chosen = choices[choice]
        if chosen in options if options else chosen != "none":
            return True
    return False


def corrected_methods() -> list[str]:
    """The methods that correct for older weights as they are."""
    defaults = {name: record.defaults for name, record in FAMILIES.items() if record.ahead}
    return sorted(
        name
        for name, method in METHODS.items()
        if method.family in defaults
        and is_corrected(
            {**dict.fromkeys(CORRECTING, "none"), **defaults[method.family], **method.parts}
        )
    )


def _check_corrected(stage: Stage, staleness: int) -> None:
    if is_corrected(stage.objective.choices):
        return
    where = f"config.{stage.name}"
    raise ValueError(
        f"Method {stage.objective.method.name!r} has no correction for samples of older weights, "
        f"and max_staleness={staleness}: take one of {', '.join(corrected_methods())}, or set "
        f"{where}.objective.correction='truncated' or {where}.objective.denominator='behavior' "
        f"({where}.method, {FIELD}.max_staleness)."
    )
