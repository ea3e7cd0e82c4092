"""Curricula that a stage cannot follow, refused before anything runs."""

from rljax.config.stage import Stage
from rljax.objectives.curricula.curriculum import Curriculum
from rljax.objectives.parts import inputs_of

# The order that no curriculum decides over.
SHUFFLED = "shuffled"

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
    if stage.objective.choices.get("curriculum", SHUFFLED) == SHUFFLED:
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
    if curriculum is None:
        return
    if choices["rollouts"] == "windows":
        raise ValueError(
            f"curriculum={name!r} hands out the problems of a step at once; with "
            f"rollouts='windows' they come as slots are free: take 'whole' or 'tree' "
            f"({where}.objective.curriculum, {where}.objective.rollouts)."
        )
    if "advantages" in reads:
        _advantages_are_of_scores(stage, where)


def _advantages_are_of_scores(stage: Stage, where: str) -> None:
    functions, choices = stage.objective.functions, stage.objective.choices
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
