"""What a benchmark runs: the objects of a training run around random weights and prompts."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rljax.config.load import apply_overrides, complete
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import Tokenizer
from rljax.models.lora import adapters_are_zero, drop_adapters
from rljax.models.network import Params
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import rows_divisor
from rljax.registry import METHODS
from rljax.rewards.pool import Scorer
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.run.context import Context, build_network
from rljax.training.run.start import Source, load_start
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import TrainState, create_state, state_shardings

# A small model in the shape of Qwen3, for machines without an accelerator.
SMALL_QWEN = {
    "vocab_size": 4096,
    "layers": 6,
    "width": 384,
    "heads": 6,
    "kv_heads": 2,
    "head_dim": 64,
    "mlp_width": 1024,
    "query_key_norm": "head",
    "tied_embeddings": False,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of a benchmark.

    Attributes:
        prompts: B, in a step.
        samples: G, of each prompt.
        prompt_tokens: P, of every prompt.
        new_tokens: T, of every sample.
        steps: timed, after one that is not.
        preset: a shape of models/presets.py; "": `SMALL_QWEN`.
        overrides: words such as "--config.model.dtype=bfloat16"; the stage is called grpo.
    """

    prompts: int = 8
    samples: int = 8
    prompt_tokens: int = 64
    new_tokens: int = 64
    steps: int = 5
    preset: str = ""
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("prompts", "samples", "prompt_tokens", "new_tokens", "steps"):
            if getattr(self, field) < 1:
                flag = f"--{field.replace('_', '-')}"
                raise ValueError(f"{flag} must be >= 1, got {getattr(self, field)} ({flag}).")


class NumberTokenizer(Tokenizer):
    """Token n is the word "n". Nothing ends a text: the id of eos is outside of the vocabulary."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.pad_id, self.bos_id, self.eos_id = 0, None, vocab_size

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(map(str, ids))

    def token_text(self, token_id: int) -> str:
        return str(token_id)


def length_modulo_7(prompt: str, completion: str, reference: Any) -> float:
    """A reward that costs nothing and differs between samples."""
    return float(len(completion) % 7)


def random_prompts(count: int, tokens: int, vocab_size: int) -> list[dict[str, str]]:
    """Problems whose prompts are `tokens` random words of `NumberTokenizer`."""
    ids = np.random.default_rng(0).integers(0, vocab_size, (count, tokens))
    return [{"prompt": " ".join(map(str, row)), "reference": ""} for row in ids]


def default_micro_batch(settings: Settings) -> int:
    """Two prompts' samples for the small shape, whose activations then stay in a CPU's caches.

    Everything at once for a preset, or where two does not divide the prompts.
    """
    groups = settings.prompts if settings.preset or settings.prompts % 2 else 2
    return groups * settings.samples


def benchmark_config(settings: Settings) -> ConfigDict:
    """The config of a GRPO run: AdamW, no KL, one update a step."""
    config = complete(
        {
            "name": "bench",
            "stages": ("grpo",),
            "model": {"preset": settings.preset} if settings.preset else SMALL_QWEN,
            "data": {"kind": "jsonl", "max_prompt_tokens": settings.prompt_tokens},
            "scoring": {
                "rewards": ({"name": f"{Path(__file__)}:length_modulo_7"},),
                "workers": 0,
            },
            "grpo": {
                "method": "grpo",
                "objective": {"kl_placement": "none"},
                "batch": {
                    "prompts_per_step": settings.prompts,
                    "samples_per_prompt": settings.samples,
                    "sequences_per_micro_batch": default_micro_batch(settings),
                },
                "sampling": {"max_new_tokens": settings.new_tokens},
                "optimizer": {"name": "adamw", "learning_rate": 1e-6},
            },
        }
    )
    return apply_overrides(config, settings.overrides)


@dataclasses.dataclass
class Workload:
    """A stage, ready to run; `state` is that after the updates so far."""

    context: Context
    stage: Stage
    family: PolicyGradient
    train_step: Callable
    state: TrainState
    source_state: dict[str, Any]

    def free(self) -> None:
        """Deletes all parameters and moments: nothing can be run any more."""
        for leaf in jax.tree.leaves((self.state, self.context.frozen, self.family.reference)):
            leaf.delete()


def surroundings(settings: Settings) -> tuple[Context, Params]:
    """Context and trained parameters, as a training run has them; the caller sets the mesh.

    Raises:
        ValueError: for settings that training refuses, too.
    """
    config = benchmark_config(settings)
    return opened(config, _stage(config, settings), settings)


def opened(config: ConfigDict, stage: Stage, settings: Settings) -> tuple[Context, Params]:
    """Context and trained parameters of a run of one stage; the caller sets the mesh."""
    mesh = make_mesh(config.mesh.to_dict())
    config.evaluation.prompts_per_batch = rows_divisor(mesh)  # nothing is evaluated
    network, (stage,) = build_network(config, (stage,), mesh, tokenizer_size=1)
    vocab_size = network.config.vocab_size
    problems = random_prompts(
        settings.prompts * (settings.steps + 1), settings.prompt_tokens, vocab_size
    )
    params, frozen = load_start(Source.of(config), network, mesh)
    context = Context(
        config=config,
        workdir=Path(),
        stages=(stage,),
        mesh=mesh,
        network=network,
        text_format=TextFormat(NumberTokenizer(vocab_size)),
        train_problems=problems,
        heldout_problems=problems,
        scorer=Scorer(config.scoring.rewards, workers=0),
        frozen=frozen,
    )
    return context, params


def build(settings: Settings) -> Workload:
    """Builds network, state and programs as a training run does; the caller sets the mesh.

    Raises:
        ValueError: for settings that training refuses, too.
    """
    context, params = surroundings(settings)
    (stage,), network, mesh = context.stages, context.network, context.mesh
    optimizer = build_optimizer(stage)
    carried = PolicyGradient.carried(context, stage)
    shardings = state_shardings(network, optimizer, mesh, carried)
    reference = reference_of(context, params) if stage.needs_reference else None
    family = PolicyGradient(context, stage, reference, 0)
    update = family.make_update(optimizer, purpose_key(context.config.seed, Purpose.ROUNDING))
    state = create_state(params, optimizer, shardings, carried)
    return Workload(context, stage, family, update, state, family.source.first_state())


def _stage(config: ConfigDict, settings: Settings) -> Stage:
    """The one stage of the config, which must have a method and the sizes that are timed."""
    timed = [name for name, row in METHODS.items() if row.family == "policy_gradient"]
    if tuple(config.stages) != ("grpo",) or config.grpo.method not in timed:
        raise ValueError(
            f"What is timed is one stage, grpo, of a method that learns from rewards of samples; "
            f"got stages={config.stages}, method={config.grpo.method!r}; known: "
            f"{', '.join(timed)} (config.stages, config.grpo.method)."
        )
    (stage,) = validate(config)
    sizes = {
        "prompts": ("grpo.batch.prompts_per_step", stage.batch.prompts_per_step),
        "samples": ("grpo.batch.samples_per_prompt", stage.batch.samples_per_prompt),
        "prompt_tokens": ("data.max_prompt_tokens", config.data.max_prompt_tokens),
        "new_tokens": ("grpo.sampling.max_new_tokens", stage.max_new_tokens),
    }
    for name, (field, size) in sizes.items():
        if size != getattr(settings, name):
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"config.{field}={size} must be set by {flag} here (config.{field}).")
    return stage


def reference_of(context: Context, start: Params) -> Params:
    """The policy that the stage starts from, as the train loop keeps it: a copy of what is trained.

    Adapters that are zero are left out.
    """
    start = jax.tree.map(jnp.copy, start)
    return context.full(drop_adapters(start) if adapters_are_zero(start) else start)
