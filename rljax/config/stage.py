"""A stage of a run, every value resolved."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rljax.registry import Objective
from rljax.sampling.distribution import TokenFilter


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """How the batch fields multiply.

    sequences_per_step = prompts_per_step * samples_per_prompt            (online stages)
    updates_per_step = epochs_per_step * sequences_per_step / sequences_per_update
    micro_batches = sequences_per_update / sequences_per_micro_batch
    """

    prompts_per_step: int
    samples_per_prompt: int
    epochs_per_step: int
    sequences_per_update: int
    sequences_per_micro_batch: int
    share_prompts: bool = False  # rows are whole groups (training/update/rows.py)
    rows_beside: int = 0  # rows beside the samples of a prompt

    @property
    def rows_per_prompt(self) -> int:
        """Sequences of one prompt: samples and demonstrations."""
        return self.samples_per_prompt + self.rows_beside

    @property
    def sequences_per_step(self) -> int:
        """Sequences that one step makes or reads."""
        return self.prompts_per_step * self.rows_per_prompt or self.sequences_per_update

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates of one step."""
        return self.epochs_per_step * self.sequences_per_step // self.sequences_per_update

    @property
    def micro_batches(self) -> int:
        """Forward and backward passes of one update."""
        return self.sequences_per_update // self.sequences_per_micro_batch


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage, every value resolved."""

    name: str
    objective: Objective
    steps: int
    reference_kl: bool
    batch: BatchSizes
    token_filter: TokenFilter
    max_new_tokens: int
    stop_strings: tuple[str, ...]
    data: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    critic: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start_from: str = ""  # "": the stage before it (config/graph.py)
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # beyond config.model
    models: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # by role

    @property
    def online(self) -> bool:
        """Whether the stage samples its own training data in every step."""
        return self.objective.description.online

    def sequences_together(self, *, shared: bool) -> int:
        """How many sequences stay together: in a batch, or in a row that shares its prompt."""
        together = self.objective.together
        return together.size(self.batch.rows_per_prompt, shared=shared)

    @property
    def needs_reference(self) -> bool:
        """Whether a reference policy enters: by default the stage's first parameters."""
        return self.objective.needs_reference or self.reference_kl

    @property
    def moves_reference(self) -> bool:
        """Whether the reference follows the policy: it is part of the state then."""
        return self.objective.choices.get("reference_update", "none") != "none"

    @property
    def freezes_reference(self) -> bool:
        """Whether the reference is a model of its own that never changes."""
        return self.needs_reference and not self.moves_reference

    def _filter_fields(self) -> dict[str, Any]:
        """The filter as the config says it; which ids have no text follows from the tokenizer."""
        fields = dataclasses.asdict(self.token_filter)
        del fields["textless"]
        return fields

    def as_dict(self) -> dict[str, Any]:
        """The stage as saved in config.json."""
        return {
            "method": self.objective.method.name,
            "steps": self.steps,
            "reference_kl": self.reference_kl,
            "objective": self.objective.as_dict(),
            "batch": dataclasses.asdict(self.batch),
            "sampling": {
                "max_new_tokens": self.max_new_tokens,
                "stop_strings": self.stop_strings,
                **self._filter_fields(),
            },
            "data": dict(self.data),
            "optimizer": dict(self.optimizer),
            **({"critic": dict(self.critic)} if self.critic else {}),
            **({"start_from": self.start_from} if self.start_from else {}),
            **({"network": dict(self.network)} if self.network else {}),
            **({"models": {k: dict(v) for k, v in self.models.items()}} if self.models else {}),
        }
