"""What the stages of a run share."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.validate import Stage, check_mesh
from rljax.data.chat import PlainTemplate, render_chat
from rljax.data.sources import ProblemSource, open_source
from rljax.data.tokenizers import Tokenizer, load_tokenizer
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, replicated, rows_divisor
from rljax.rewards.pool import Scorer
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.sampler import Sampler, SamplingConfig, make_sampler
from rljax.tasks.reasoning_gym import splits
from rljax.training.checkpoints import check_params, find_step
from rljax.training.logprobs import make_score

Record = dict[str, Any]

# Generated training problems looked at before anything compiles; files and held-out problems are
# looked at whole.
CHECKED_PROBLEMS = 1000


@dataclasses.dataclass(frozen=True)
class Context:
    """The fixed surroundings of a run."""

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    network: Network
    tokenizer: Tokenizer
    train_problems: Sequence[Record]
    heldout_problems: Sequence[Record]
    scorer: Scorer

    def jit_sampler(
        self,
        *,
        samples_per_prompt: int,
        max_new_tokens: int,
        token_filter: TokenFilter,
        extra_stop_tokens: tuple[int, ...] = (),
    ) -> Sampler:
        """A jitted sampler on this mesh (sampling/sampler.py)."""
        sample = make_sampler(
            self.network,
            SamplingConfig(
                samples_per_prompt=samples_per_prompt,
                max_new_tokens=max_new_tokens,
                stop_tokens=(self.tokenizer.eos_id, *extra_stop_tokens),
                pad_token=self.tokenizer.pad_id,
                token_filter=token_filter,
            ),
        )
        rows, whole = batch_sharding(self.mesh), replicated(self.mesh)
        params = self.network.shardings(self.mesh)
        return jax.jit(
            sample, in_shardings=(params, rows, rows, rows, whole, whole), out_shardings=rows
        )

    def jit_score(self, token_filter: TokenFilter, *, micro_batches: int) -> Callable:
        """A jitted `score(params, rows)` on this mesh (training/logprobs.py)."""
        rows = batch_sharding(self.mesh)
        return jax.jit(
            make_score(self.network, token_filter, micro_batches=micro_batches),
            in_shardings=(self.network.shardings(self.mesh), rows),
            out_shardings=rows,
        )

    def prompt_texts(self, records: Sequence[Record], column: str | None = None) -> list[str]:
        """The prompts of records as text; lists of chat messages go through the chat template.

        Args:
            records: of the run's problems, or of a stage's own file.
            column: where the prompt is; by default that of the problems.
        """
        return prompt_texts(self.config, self.tokenizer, records, column)

    def references(self, records: Sequence[Record]) -> list[Any]:
        """What the rewards compare with."""
        column = self.config.data.reference_column
        if self.config.data.kind == "reasoning_gym":
            column = "reference"
        return [record[column] for record in records]


def prompt_texts(
    config: ConfigDict, tokenizer: Tokenizer, records: Sequence[Record], column: str | None = None
) -> list[str]:
    """See `Context.prompt_texts`."""
    if column is None:
        column = "prompt" if config.data.kind == "reasoning_gym" else config.data.prompt_column
    turn, opening = config.tokenizer.chat_turn, config.tokenizer.chat_generation_prompt
    template = PlainTemplate(turn, opening) if turn else None
    prompts = [record[column] for record in records]
    return [
        prompt if isinstance(prompt, str) else render_chat(prompt, tokenizer, template=template)
        for prompt in prompts
    ]


def check_prompts(
    texts: Sequence[str], tokenizer: Tokenizer, config: ConfigDict, what: str = "record"
) -> None:
    """Raises ValueError for a prompt that is empty or longer than the budget."""
    budget = config.data.max_prompt_tokens
    for index, text in enumerate(texts):
        count = len(tokenizer.encode(text)) + config.tokenizer.add_bos
        if not 1 <= count <= budget:
            raise ValueError(
                f"The prompt of {what} {index} has {count} tokens; 1 to {budget} are allowed "
                f"(config.data.max_prompt_tokens): {text[:80]!r}"
            )


def build_context(config: ConfigDict, stages: Sequence[Stage], workdir: Path) -> Context:
    """Opens everything that a run needs, checking as it goes; nothing is compiled.

    Raises:
        ValueError: bad mesh, model, tokenizer, data or reward settings.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes: rollouts are decoded and scored by one controller "
            "so far; start a single process."
        )
    mesh = make_mesh(config.mesh.to_dict())
    check_mesh(tuple(stages), rows_divisor(mesh), config.evaluation.prompts_per_batch)
    tokenizer = load_tokenizer(config.tokenizer.path, tuple(config.tokenizer.special_tokens))
    if config.tokenizer.add_bos and tokenizer.bos_id is None:
        raise ValueError(f"{config.tokenizer.path} has no bos token (config.tokenizer.add_bos).")
    model = model_config(config, tokenizer.vocab_size)
    model.check_mesh(dict(mesh.shape))
    network = Network.create(model)
    if config.model.init_from:
        check_params(find_step(config.model.init_from), network)
    train, heldout = open_problems(config)
    heldout_count = min(len(heldout), config.data.heldout_size)
    for problems, count in ((heldout, heldout_count), (train, checked_count(train))):
        records = [{**problems[index], "id": index} for index in range(count)]
        check_prompts(prompt_texts(config, tokenizer, records), tokenizer, config, "problem")
    scoring = config.scoring
    scorer = Scorer(
        [dict(reward) for reward in scoring.rewards],
        workers=scoring.workers,
        timeout_seconds=scoring.timeout_seconds,
        failure_reward=scoring.failure_reward,
        max_failed_share=scoring.max_failed_share,
    )
    return Context(config, workdir, mesh, network, tokenizer, train, heldout, scorer)


def checked_count(records: Sequence[Record]) -> int:
    """How many records are checked at the start: files whole, generated problems in part."""
    generated = isinstance(records, ProblemSource)
    return min(len(records), CHECKED_PROBLEMS) if generated else len(records)


def model_config(config: ConfigDict, vocab_size: int) -> ModelConfig:
    """The model section with its derived sizes."""
    section = config.model.to_dict()
    section.pop("init_from")
    if not section["head_dim"]:
        if section["width"] % section["heads"]:
            raise ValueError(
                f"width={section['width']} is not a multiple of heads={section['heads']}; set "
                "head_dim (config.model.head_dim)."
            )
        section["head_dim"] = section["width"] // section["heads"]
    section["mlp_width"] = section["mlp_width"] or 3 * section["width"]
    return ModelConfig(vocab_size=vocab_size, **section)


def open_problems(config: ConfigDict) -> tuple[Sequence[Record], Sequence[Record]]:
    """Training and held-out problems as random-access records."""
    data = config.data
    if data.kind == "reasoning_gym":
        train, heldout = splits(
            [dict(task) for task in data.tasks],
            train_seed=data.train_seed,
            heldout_seed=data.heldout_seed,
            train_size=data.train_size,
            heldout_size=data.heldout_size,
            prompt_pattern=data.prompt_pattern or None,
            answer_template=data.answer_template,
            worked_share=data.worked_share,
        )
        return ProblemSource(train), ProblemSource(heldout)
    columns = {"chat_columns": (data.prompt_column,), "columns": (data.reference_column,)}
    train = open_source(data.kind, path=data.path or None, **columns)
    heldout = open_source(
        data.kind,
        path=data.heldout_path or None,
        path_field="config.data.heldout_path",
        **columns,
    )
    return train, heldout
