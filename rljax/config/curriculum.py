"""Curricula that a stage cannot follow, refused before anything runs."""

from collections.abc import Mapping

from rljax.config.stage import Stage
from rljax.objectives.curricula.curriculum import Curriculum, unchanged
from rljax.objectives.parts import inputs_of

# Choices that decide what is sampled: their parts take no arrays.
PLANS = ("curriculum", "allocation", "rollouts")

# What samples of several rounds rule out: the option that is left.
WITH_ROUNDS = {
    "rollouts": "whole",
    "group_filter": "none",
    "demonstrations": "none",
    "sampling_temperature": "constant",
    "answer_reward": "none",
}

# What samples rule out that are rows of one prompt each (training/collect/single_rows.py).
WITH_SINGLE_ROWS = {"teacher": "none", "likelihood": "autoregressive", "segmentation": "none"}

# Why a curriculum that learns from samples would be misled.
_MISLEADS = {
    "successive": "keeps a balanced choice of them",
    "by_variance": "draws more of some problems",
}

# What a critic of prompts rules out: what would make its targets other than the mean raw score of
# all samples of a prompt.
WITH_PROMPT_VALUES = {
    "allocation": "fixed",
    "group_filter": "none",
    "demonstrations": "none",
    "reward_shaping": "none",
    "answer_reward": "none",
}

# What scores rule out that decide over samples before anything replaces them.
WITH_SCORES = {"answer_reward": "none", "teacher": "none", "kl_placement": ("none", "loss")}

# The target of a critic that values prompts before they are sampled.
OF_PROMPTS = "prompt_mean"

# Arrays that are there once samples have scores, before any model reads them.
SCORED = frozenset(
    {
        *("tokens", "mask", "group_ids", "scores", "correct", "finished", "behavior_logprobs"),
        *("token_rewards", "segment_ids"),
    }
)

# Choices that make advantages of scores.
_TO_ADVANTAGES = ("reward_shaping", "segmentation", "advantage")


def curriculum_of(stage: Stage) -> Curriculum | None:
    """The curriculum of a stage; None where all problems come in the order of the seed."""
    if "curriculum" not in stage.objective.functions:
        return None
    return stage.objective.part("curriculum")()


def check_curriculum(stage: Stage, where: str) -> None:
    """Raises ValueError for a curriculum whose parts do not go together, naming the fields.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    choices = stage.objective.choices
    name, target = choices["curriculum"], choices["value_target"]
    try:
        curriculum = curriculum_of(stage)
    except ValueError as error:
        raise ValueError(str(error).replace("config.<stage>", where)) from error
    reads = frozenset() if curriculum is None else curriculum.reads
    if ("prompt_values" in reads) != (target == OF_PROMPTS):
        raise ValueError(
            f"curriculum={name!r} does not go with value_target={target!r}: a critic that values "
            f"prompts ({OF_PROMPTS!r}) is for 'pcl', and the other way round "
            f"({where}.objective.curriculum, {where}.objective.value_target)."
        )
    _allocation(stage, curriculum, where)
    if curriculum is None:
        return
    if target == OF_PROMPTS:
        refuse_others(stage, WITH_PROMPT_VALUES, f"curriculum={name!r}", where)
    if curriculum.observe is not unchanged:
        refuse_others(stage, {"answer_reward": "none"}, f"curriculum={name!r}", where)
    if choices["rollouts"] == "windows":
        raise ValueError(
            f"curriculum={name!r} hands out the problems of a step at once; with "
            f"rollouts='windows' they come as slots are free: take 'whole' "
            f"({where}.objective.curriculum, {where}.objective.rollouts)."
        )
    if "advantages" in reads:
        _advantages_are_of_scores(stage, where)


def check_order(stage: Stage, where: str) -> None:
    """The same for families that have no critic of prompts, rounds or rollouts to choose.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    try:
        curriculum = curriculum_of(stage)
    except ValueError as error:
        raise ValueError(str(error).replace("config.<stage>", where)) from error
    if curriculum is None or curriculum.observe is unchanged:
        return
    if stage.objective.choices.get("verifier") == "none":
        raise ValueError(
            f"curriculum={stage.objective.choices['curriculum']!r} learns from right and wrong "
            "samples, and verifier='none' judges none: take an order ('easy_to_hard', 'band', "
            f"'mixture'), or verifier='switch' ({where}.objective.curriculum, "
            f"{where}.objective.verifier)."
        )


def refuse_others(
    stage: Stage, needed: Mapping[str, str | tuple[str, ...]], because: str, where: str
) -> None:
    """Raises ValueError for a choice that is none of those that are left.

    Args:
        stage: resolved.
        needed: choice -> the option, or options, that go.
        because: of which choice, for the error.
        where: path of the stage in the config.
    """
    for name, allowed in needed.items():
        options = (allowed,) if isinstance(allowed, str) else allowed
        if stage.objective.choices[name] not in options:
            raise ValueError(
                f"{name}={stage.objective.choices[name]!r} does not go with {because}: it must be "
                f"{' or '.join(map(repr, options))} ({where}.objective.{name})."
            )


def _allocation(stage: Stage, curriculum: Curriculum | None, where: str) -> None:
    """Rounds of samples, and the advantage that knows of all of them."""
    choices, pooled = stage.objective.choices, "pool_means" in stage.objective.inputs
    chosen = choices["allocation"]
    if pooled and chosen != "successive":
        raise ValueError(
            f"advantage={choices['advantage']!r} reads all that was drawn of a prompt, and "
            f"allocation={chosen!r} draws what is learned from: take 'successive' "
            f"({where}.objective.allocation)."
        )
    if chosen == "fixed":
        return
    try:
        plan = stage.objective.part("allocation")()
    except ValueError as error:
        raise ValueError(str(error).replace("config.<stage>", where)) from error
    if chosen == "screening":
        _screening(stage, plan.samples, where)
        return
    if chosen == "by_variance":
        _by_variance(stage, where)
    elif plan.samples < stage.batch.samples_per_prompt:
        raise ValueError(
            f"round_samples={plan.samples} is below samples_per_prompt="
            f"{stage.batch.samples_per_prompt}, of which a group is kept "
            f"({where}.objective.round_samples, {where}.batch.samples_per_prompt)."
        )
    refuse_others(stage, WITH_ROUNDS, f"allocation={chosen!r}", where)
    if curriculum is not None and curriculum.observe is not unchanged:
        raise ValueError(
            f"curriculum={choices['curriculum']!r} counts right samples, and allocation={chosen!r} "
            f"{_MISLEADS[chosen]}: one of the two must be 'shuffled' or 'fixed' "
            f"({where}.objective.curriculum, {where}.objective.allocation)."
        )


def _screening(stage: Stage, samples: int, where: str) -> None:
    """First samples that a filter judges, and others that make the groups whole."""
    if samples > stage.batch.samples_per_prompt:
        raise ValueError(
            f"screen_samples={samples} is above samples_per_prompt="
            f"{stage.batch.samples_per_prompt}, of which they are the first "
            f"({where}.objective.screen_samples, {where}.batch.samples_per_prompt)."
        )
    if stage.objective.choices["group_filter"] == "none":
        raise ValueError(
            "allocation='screening' samples on where a group passes, and group_filter='none' lets "
            f"every one pass: take 'mixed' ({where}.objective.group_filter)."
        )
    needed = {name: option for name, option in WITH_ROUNDS.items() if name != "group_filter"}
    refuse_others(stage, needed, "allocation='screening'", where)


def _by_variance(stage: Stage, where: str) -> None:
    """Groups of different sizes: nothing may count on one size."""
    check_single_rows(stage, "allocation='by_variance'", where)
    if "score_weights" in stage.objective.batch_inputs:
        raise ValueError(
            f"surrogate={stage.objective.choices['surrogate']!r} compares the samples of a prompt "
            "within an update, and with allocation='by_variance' they may be in several: take "
            f"another one ({where}.objective.surrogate)."
        )


def check_single_rows(stage: Stage, because: str, where: str) -> None:
    """Raises ValueError for what needs the samples of a prompt to share it.

    Args:
        stage: of policy gradients, resolved.
        because: the choice that makes each sample a row with a prompt of its own.
        where: path of the stage in the config.
    """
    refuse_others(stage, WITH_SINGLE_ROWS, because, where)
    if stage.batch.share_prompts:
        raise ValueError(
            "share_prompts=True puts the samples of a prompt into one row, and with "
            f"{because} each has its own: set it to False ({where}.batch.share_prompts)."
        )
    if {"greedy_scores", "base_scores"} & stage.objective.inputs:
        raise ValueError(
            f"advantage={stage.objective.choices['advantage']!r} scores a greedy completion of "
            f"each prompt, which does not go with {because}: take another one "
            f"({where}.objective.advantage)."
        )


def _advantages_are_of_scores(stage: Stage, where: str) -> None:
    functions, choices = stage.objective.functions, stage.objective.choices
    refuse_others(stage, WITH_SCORES, f"curriculum={choices['curriculum']!r}", where)
    for name in _TO_ADVANTAGES:
        if name not in functions:
            continue
        later = [array for array in inputs_of(functions[name]) if array not in SCORED]
        if later:
            raise ValueError(
                f"curriculum={choices['curriculum']!r} reads advantages as soon as samples have "
                f"scores, and {name}={choices[name]!r} reads {later[0]!r}, which is made later "
                f"({where}.objective.curriculum, {where}.objective.{name})."
            )
