"""A published model through the recipes of configs/examples/: its first losses against torch.

Every run is a process of its own, as a user starts it; its peak memory is printed (`pytest -s`).
The model is read as what the recipes want: a tokenizer with a chat template.
"""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rljax.data.chat import CLOCK, make_template
from rljax.data.rows import example_of
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import load_tokenizer
from rljax.models.pretrained import stop_token_ids
from rljax.reporting.files import read_json, read_rows

pytestmark = pytest.mark.real
pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
NEW_TOKENS = 16

# A command of launch/ in a process that says what memory it needed. Not ru_maxrss: that begins at
# the peak of the process before this one.
PROGRAM = """
import importlib.util, re, sys
name, *arguments = sys.argv[1:]
spec = importlib.util.spec_from_file_location("command", f"launch/{name}.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
status = module.main(arguments)
kib = int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
print(f"peak {kib} KiB")
sys.exit(status)
"""

SUM = "Ada has 3 apples and finds 4 more. How many are there now?"
CONVERSATIONS = (
    [("user", SUM), ("assistant", "There are 3 + 4 = 7 apples.\n#### 7")],
    [
        ("user", "Wie heißt die Hauptstadt von Österreich?  "),
        ("assistant", "Wien. 🎡"),
        ("user", "And of\n\nFrance?"),
        ("assistant", "  Paris, on the river Seine.  "),
    ],
)
PAIRS = (("There are 3 + 4 = 7 apples.", "apples apples apples"), ("7", "I do not know."))
ONE_ROW = ("sft.batch.sequences_per_update=1", "sft.batch.sequences_per_micro_batch=1")
ONE_ROW += ("sft.optimizer.warmup_updates=0",)
TEXT = (
    "The capital of France is",
    " Paris, a city on the river Seine. It is known for the Eiffel Tower, which was built in 1889.",
)


def said(conversation) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in conversation]


class Trained(NamedTuple):
    """A finished run."""

    workdir: Path
    rows: list[dict]  # of its training steps

    def first(self, metric: str) -> float:
        return self.rows[0][metric]


def command(name: str, *arguments: object) -> str:
    """Runs it on one CPU device; what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-c", PROGRAM, name, *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def train(folder, tmp_path_factory):
    """train(recipe, rows, *fields, words): a run of the recipe on these rows."""

    def start(recipe: str, rows: list[dict], *fields: str, words: str = "") -> Trained:
        place = tmp_path_factory.mktemp("run")
        files = {"train": rows, "heldout": [{"question": SUM, "answer": "#### 7"}]}
        for name, content in files.items():
            text = "".join(json.dumps(row) + "\n" for row in content)
            (place / f"{name}.jsonl").write_text(text, encoding="utf-8")
        given = f"model={folder},train={place / 'train.jsonl'},heldout={place / 'heldout.jsonl'}"
        small = ("evaluation.max_new_tokens=1", "evaluation.samples_per_prompt=0")
        small += ("evaluation.prompts_per_batch=1", "data.max_prompt_tokens=48")
        small += ("scoring.workers=0", "reporting.writers=('jsonl',)")
        printed = command(
            *("train", f"--config=configs/examples/{recipe}.py:{given}{words}"),
            *(f"--config.{field}" for field in (*small, *fields)),
            f"--workdir={place / 'run'}",
        )
        (peak,) = re.findall(r"peak (\d+) KiB", printed)
        print(f"\n{recipe}{words[:5]}, {fields[0]}: peak {int(peak) / 2**20:.2f} GiB")
        rows = read_rows(place / "run/metrics.jsonl")
        return Trained(place / "run", [row for row in rows if row["kind"] == "train"])

    return start


def their_logprobs(model, tokens: list[int]) -> np.ndarray:
    """Log-probabilities of each token after the first, in torch: [S - 1]."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    chosen = torch.tensor(tokens[1:])[:, None]
    return logits.log_softmax(-1).gather(1, chosen)[:, 0].numpy()


def learned_of(tokenizer, messages: list[dict]) -> tuple[list[int], np.ndarray]:
    """The ids of a conversation by transformers, and which of them the assistant writes."""
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    learned = np.zeros(len(whole), bool)
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(
                messages[:place], add_generation_prompt=True, return_dict=False
            )
            until = tokenizer.apply_chat_template(messages[: place + 1], return_dict=False)
            assert whole[: len(before)] == before and whole[: len(until)] == until
            stop = until.index(end_of_turn(tokenizer), len(before)) + 1
            learned[len(before) : stop] = True
    return whole, learned


def end_of_turn(tokenizer) -> int:
    """The token that the template writes after the assistant's text."""
    asked = said([("user", "a")])
    opened = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    answered = [*asked, {"role": "assistant", "content": "b"}]
    ids = tokenizer.apply_chat_template(answered, return_dict=False)
    return ids[len(opened) + len(tokenizer("b", add_special_tokens=False)["input_ids"])]


def test_conversations_are_those_of_transformers(folder, tokenizer):
    own = load_tokenizer(folder)
    template = make_template(own, turn="", opening="", clock=CLOCK)
    text_format = TextFormat(own, template=template, stop_tokens=stop_token_ids(folder))
    assert text_format.ends == tuple(
        dict.fromkeys((tokenizer.eos_token_id, *stop_token_ids(folder), end_of_turn(tokenizer)))
    )
    for conversation in CONVERSATIONS:
        messages = said(conversation)
        prompt = text_format.prompt(messages[:-1], where="here")
        assert prompt.tokens == tokenizer.apply_chat_template(
            messages[:-1], add_generation_prompt=True, return_dict=False
        )
        example = example_of({"messages": messages}, text_format, where="here", learn="all")
        whole, learned = learned_of(tokenizer, messages)
        assert list(example.tokens) == whole[: len(example.tokens)]
        assert list(example.learned) == learned[: len(example.tokens)].tolist()
        assert not learned[len(example.tokens) :].any()


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-4), ("bfloat16", 0.05)])
def test_the_first_loss_of_sft_is_torch_s(train, theirs, tokenizer, dtype, tolerance):
    rows = [{"messages": said(conversation)} for conversation in CONVERSATIONS]
    fields = ("sft.steps=3", "sft.data.row_tokens=128", *ONE_ROW)
    run = train("messages", rows, f"model.dtype={dtype}", *fields)
    values = []
    for row in rows:
        whole, learned = learned_of(tokenizer, row["messages"])
        values.append(-their_logprobs(theirs(dtype), whole)[learned[1:]])
    expected = np.concatenate(values).mean()
    losses = [row["loss"] for row in run.rows]
    print(f"\nsft {dtype}: losses {losses}, torch {expected:.6f}")
    assert abs(losses[0] - expected) < tolerance
    assert losses[-1] < losses[0] and run.first("end_learned_share") == 1.0


def test_a_text_begins_with_its_bos(train, theirs, tokenizer):
    prompt, completion = TEXT
    rows = [{"prompt": prompt, "completion": completion}]
    fields = ("data.chat=False", "sft.steps=1", "sft.data.row_tokens=64", *ONE_ROW)
    run = train("messages", rows, "model.dtype=float32", *fields, words=",lora")
    before = tokenizer(prompt)["input_ids"]
    after = tokenizer(completion, add_special_tokens=False)["input_ids"]
    whole = [*before, *after, tokenizer.eos_token_id]
    assert before[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in before[1:]
    expected, without = (
        -their_logprobs(theirs("float32"), ids)[-len(after) - 1 :].mean()
        for ids in (whole, whole[1:])
    )
    found = run.first("loss")
    print(f"\ntext: {found:.4f}, torch {expected:.4f}, torch without bos {without:.4f}")
    assert abs(found - expected) < 2e-4 and without - expected > 0.5


def test_the_first_loss_of_dpo_is_ln_2(train, theirs, tokenizer):
    asked = said([("user", SUM)])
    rows = [
        {
            side: [*asked, {"role": "assistant", "content": text}]
            for side, text in zip(("chosen", "rejected"), pair, strict=True)
        }
        for pair in PAIRS
    ]
    fields = ("dpo.steps=3", "dpo.data.max_completion_tokens=24")
    fields += ("dpo.batch.sequences_per_update=4", "dpo.batch.sequences_per_micro_batch=4")
    fields += ("dpo.optimizer.warmup_updates=0", "dpo.optimizer.learning_rate=1e-4")
    run = train("preferences", rows, "model.dtype=float32", *fields, words=",lora")
    losses = [row["loss"] for row in run.rows]
    print(f"\ndpo: losses {losses}, ln 2 = {math.log(2):.6f}")
    assert abs(losses[0] - math.log(2)) < 1e-5 and losses[-1] < losses[0]
    for side in ("chosen", "rejected"):
        sums = []
        for row in rows:
            whole, learned = learned_of(tokenizer, row[side])
            sums.append(their_logprobs(theirs("float32"), whole)[learned[1:]].sum())
        found, expected = run.first(f"logprob_{side}"), float(np.mean(sums))
        print(f"\ndpo, log-probability {side}: {found:.4f}, torch {expected:.4f}")
        assert abs(found - expected) < 5e-3


def grpo_gap(train, dtype: str) -> tuple[Trained, float]:
    """Two steps of GRPO with adapters, and how far sampler and trainer were apart in the first."""
    fields = ("grpo.steps=2", f"grpo.sampling.max_new_tokens={NEW_TOKENS}")
    fields += ("grpo.batch.prompts_per_step=1", "grpo.batch.samples_per_prompt=4")
    fields += ("grpo.batch.sequences_per_update=4", "grpo.batch.sequences_per_micro_batch=4")
    fields += ("grpo.optimizer.learning_rate=1e-3", "grpo.optimizer.warmup_updates=0")
    rows = [{"question": SUM, "answer": "#### 7"}]
    odd = f",lora,reward={ROOT / 'tests/training/odd_reward.py'}:odd"
    run = train("gsm8k", rows, f"model.dtype={dtype}", *fields, words=odd)
    gap = run.first("sampler_trainer_gap")
    print(f"\ngrpo {dtype}: gap {gap:.2e} nats a token, loss {run.first('loss'):.2e}")
    return run, gap


def test_grpo_in_bfloat16_samples_what_it_trains(train):
    assert grpo_gap(train, "bfloat16")[1] < 0.05


def test_grpo_in_float32_samples_what_it_trains_and_goes_out(train, folder, tokenizer, tmp_path):
    import torch
    import transformers

    run, gap = grpo_gap(train, "float32")
    assert gap < 1e-5
    sampled = read_json(run.workdir / "rollouts/grpo-000001.json")["prompts"][0]
    expected = tokenizer.apply_chat_template(
        said([("user", SUM)]), add_generation_prompt=True, tokenize=False
    )
    assert sampled["prompt"] == expected
    out = tmp_path / "out"
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    questions = [said([("user", SUM)]), said(CONVERSATIONS[1][:1])]
    prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in questions))
    command("export", f"--checkpoint={run.workdir}", f"--out={out}")
    command(
        *("generate", f"--checkpoint={run.workdir}", f"--prompts={prompts}", f"--out={answers}"),
        *("--temperature=0", f"--max-new-tokens={NEW_TOKENS}"),
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert any(
        not torch.equal(one, other)
        for one, other in zip(model.parameters(), base.parameters(), strict=True)
    )
    for question, line in zip(questions, answers.read_text().splitlines(), strict=True):
        ids = tokenizer.apply_chat_template(
            question, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        with torch.no_grad():
            whole = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False)
        (completion,) = json.loads(line)["completions"]
        theirs_text = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
        print(f"\ngreedy after export: {completion['text']!r}")
        assert completion["text"] == theirs_text
