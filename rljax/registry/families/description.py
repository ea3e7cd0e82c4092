"""What the record of a family says."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rljax.objectives.parts import Field
from rljax.registry.families.limits import Limit

Defaults = Mapping[str, Any]
Functions = Mapping[str, Callable | None]


@dataclasses.dataclass(frozen=True)
class Reads:
    """Fields that a stage reads besides its objective, with the family's defaults.

    Every field of config/schema.py that is named nowhere here is an error when it is set.

    Attributes:
        stage: of the stage's section itself.
        batch: of its section `batch`. A 0 stands for all of the level above: an update is a whole
            step, a micro-batch a whole update. None: where it fits.
        sampling: of its section `sampling`.
        data: of its section `data`.
        critic: of its section `critic`.
    """

    stage: Defaults = dataclasses.field(default_factory=dict)
    batch: Defaults = dataclasses.field(default_factory=dict)
    sampling: Defaults = dataclasses.field(default_factory=dict)
    data: Defaults = dataclasses.field(default_factory=dict)
    critic: Defaults = dataclasses.field(default_factory=dict)

    def __or__(self, other: "Reads") -> "Reads":
        """All fields of both; where both have one, the default of `other`."""
        names = [field.name for field in dataclasses.fields(self)]
        return Reads(**{name: {**getattr(self, name), **getattr(other, name)} for name in names})


@dataclasses.dataclass(frozen=True)
class Together:
    """How many sequences stay together; None: all of a prompt's, samples and demonstrations.

    Attributes:
        in_batch: in every update and micro-batch.
        in_row: behind one prompt, in rows that share their prompts.
        reason: of `in_batch`, for errors.
    """

    in_batch: int | None = 1
    in_row: int | None = 1
    reason: str = ""

    def size(self, rows_per_prompt: int, *, shared: bool) -> int:
        """Sequences that stay together.

        Args:
            rows_per_prompt: all sequences of a prompt.
            shared: whether rows share their prompts.
        """
        count = self.in_row if shared else self.in_batch
        return rows_per_prompt if count is None else count


@dataclasses.dataclass(frozen=True)
class Family:
    """Methods that share a loss function and a kind of data.

    Attributes:
        name: as methods name it, and the table of training/families/.
        data: what a stage reads, in words.
        online: whether a stage samples its training data anew in every step.

        choices: part -> its table, option -> function (None: there is nothing to call).
        defaults: the option that is taken where neither method nor config names one.
        fields: what no part reads as a keyword: by "choice=option", and under "" always.
        functions: functions that an option brings besides its own, by "choice=option" and a name.
        batch_inputs: functions of the whole batch of an update, by the array that they compute;
            one is called where a part names its array.
        docs: what choices and fields mean, where no docstring of a part says it.
        limits: what fields may be, besides their type.

        reads: fields of a stage's other sections.
        adds: more of them that an option brings, by "choice=option".
        sources: what a stage can read its data from (`data.source`), and fields that each brings;
            without any, the stage's data are the prompts of `config.data`.

        rows_beside: rows of a prompt besides its samples that an option brings, by "choice=option".
        together: which sequences of a batch stay together.
        togethers: the same where an option says so, by "choice=option".
        completion_slots: fields that add up to a completion's slots in a row, as "section.field";
            those of a prompt come before them.
        more_slots: fields that an option adds to that, by "choice=option", in rows that are only
            scored.
        row_slots: the field with the slots of a whole row, where rows are not prompts and
            completions.

        group_baselines: choice -> options whose baseline is the prompt's other samples; they need
            two at least.
        scored: whether rewards score its samples, those of models among them.
        heads: heads of the networks that it trains (models/config.py).
        option_heads: the same where an option says so, by "choice=option".
        causal: attention masks of these networks.
        from_the_left: options that need causal ones, by "choice=option", and why.
        device_loop: whether training/device_loop/ can run it.
        ahead: whether its samples may be of older weights (training/ahead/).
        episodes: whether its samples may be episodes of several replies (environments/).
        checks: functions of config/checks.py that refuse combinations, by name.
    """

    name: str
    data: str
    online: bool

    choices: Mapping[str, Functions]
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Field]] = dataclasses.field(default_factory=dict)
    functions: Mapping[str, Functions] = dataclasses.field(default_factory=dict)
    batch_inputs: Functions = dataclasses.field(default_factory=dict)
    docs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    limits: Mapping[str, Limit] = dataclasses.field(default_factory=dict)

    reads: Reads = Reads()
    adds: Mapping[str, Reads] = dataclasses.field(default_factory=dict)
    sources: Mapping[str, Reads] = dataclasses.field(default_factory=dict)

    rows_beside: Mapping[str, int] = dataclasses.field(default_factory=dict)
    together: Together = Together()
    togethers: Mapping[str, Together] = dataclasses.field(default_factory=dict)
    completion_slots: tuple[str, ...] = ("sampling.max_new_tokens",)
    more_slots: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    row_slots: str = ""

    group_baselines: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    scored: bool = False
    heads: tuple[str, ...] = ("language_model",)
    option_heads: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    causal: tuple[bool, ...] = (True,)
    from_the_left: Mapping[str, str] = dataclasses.field(default_factory=dict)
    device_loop: bool = False
    ahead: bool = False
    episodes: bool = False
    checks: tuple[str, ...] = ()
