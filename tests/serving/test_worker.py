"""The worker: a row's numbers alone and in a crowd, the generator's tokens, fairness, weights."""

import queue
import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rljax.parallel.rules import replicated
from rljax.sampling.distribution import EXCLUDED, TokenFilter, log_distribution
from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from rljax.sampling.request import StopReason
from rljax.serving.asked import Ask, Failed, Sample, Scored, StopFinder, Written
from rljax.serving.fair_queue import FairQueue
from rljax.serving.limits import Limits
from rljax.serving.program import _allowed, row_of
from rljax.serving.service import make_worker
from rljax.serving.worker import Overloaded, Worker
from tests.serving.conftest import LIMITS

EOS = 2


def ask_of(length: int, seed: int, **fields) -> Ask:
    prompt = tuple(np.random.default_rng(100 + seed).integers(5, 261, length).tolist())
    return Ask(**{"prompt": prompt, "n": 1, "most": 20, "seed": seed, "ends": (EOS,), **fields})


# Prompts of several buckets, and every way to draw.
CROWD = [
    ask_of(3, 0),
    ask_of(17, 1, temperature=0.5, most=30),
    ask_of(40, 2, temperature=0.0),
    ask_of(9, 3, top_p=0.7),
    ask_of(70, 4, top_k=5, n=3),
    ask_of(5, 5, min_p=0.2, tops=3),
    ask_of(33, 6, logit_bias=((7, 4.0), (9, -3.0)), n=2),
    ask_of(12, 7, presence=1.5, frequency=0.5),
    ask_of(21, 8, least=25, most=40),
    ask_of(16, 9, most=1),
    ask_of(100, 10, most=60),
    ask_of(8, 11, ends=(EOS, 30, 31, 32, 33), least=4),
]


def ended(worker: Worker, asks: list[Ask]) -> list[Sample]:
    """The samples of a request, in order."""
    events: queue.Queue = queue.Queue()
    worker.submit(asks, events.put)
    found = {}
    for _ in range(sum(ask.n for ask in asks)):
        event = events.get(timeout=120)
        assert not isinstance(event, Failed), event
        found[event.sample.prompt, event.sample.number] = event.sample
    return [found[key] for key in sorted(found)]


def bits(sample: Sample) -> tuple:
    """All numbers of a sample, exactly."""
    return sample.tokens, sample.logprobs, sample.model, sample.reason


@pytest.fixture(scope="module")
def alone(service) -> list[list[Sample]]:
    """Each request with nothing beside it."""
    return [ended(service.worker, [ask]) for ask in CROWD]


def test_a_row_is_the_same_to_the_bit_alone_and_in_any_crowd(service, alone):
    """Twelve threads ask at once, twice, in two orders: 15 rows share 8 slots."""
    for order in (range(len(CROWD)), reversed(range(len(CROWD)))):
        found = {}

        def ask(place: int, found: dict = found) -> None:
            found[place] = ended(service.worker, [CROWD[place]])

        threads = [threading.Thread(target=ask, args=(place,)) for place in order]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for place, expected in enumerate(alone):
            assert [bits(s) for s in found[place]] == [bits(s) for s in expected], place
    assert len({tuple(s.tokens) for samples in alone for s in samples}) == 15


def test_the_tokens_are_those_of_the_generator(service, parts, one_device, alone):
    generator = Generator(
        parts.network, parts.params, parts.text_format.tokenizer, one_device, slots=8
    )
    for place in (0, 1, 2, 3, 8):
        ask = CROWD[place]
        options = SamplingOptions(
            n=ask.n,
            max_new_tokens=ask.most,
            min_new_tokens=ask.least,
            temperature=ask.temperature,
            top_p=ask.top_p,
        )
        (expected,) = generator.generate([ask.prompt], options, seed=ask.seed)
        for sample, completion in zip(alone[place], expected, strict=True):
            assert tuple(sample.tokens) == completion.tokens
            assert sample.reason.name.lower() == completion.stop_reason
            np.testing.assert_allclose(sample.logprobs, completion.logprobs, atol=2e-5)
            np.testing.assert_allclose(sample.model.logprobs, completion.model_logprobs, atol=2e-5)


def test_log_probabilities_are_those_of_the_distribution_that_was_sampled_from(alone, service):
    """Of a token's alternatives under min_p those are left whose mass is renormalised."""
    (sample,) = alone[5]
    (plain,) = ended(service.worker, [ask_of(5, 5, tops=20, most=1)])
    # Three rows of the model are no token, and never come.
    alternatives = np.exp([logprob for token, logprob in plain.model.tops[0] if token < 261])
    kept = alternatives[alternatives >= 0.2 * alternatives[0]]
    assert 1 < len(kept) < 20
    expected = sample.model.logprobs[0] - np.log(kept.sum())
    assert sample.logprobs[0] == pytest.approx(expected, abs=1e-5)
    assert alone[2][0].logprobs == [0.0] * len(alone[2][0].tokens)  # greedy
    assert alone[2][0].model.logprobs[0] < 0


def test_a_greedy_row_takes_the_likeliest_token(service):
    (sample,) = ended(service.worker, [ask_of(12, 20, temperature=0.0, tops=1)])
    assert [tops[0][0] for tops in sample.model.tops] == sample.tokens
    assert [tops[0][1] for tops in sample.model.tops] == pytest.approx(sample.model.logprobs)


def test_biases_and_penalties_change_the_logits(service):
    (sample,) = ended(service.worker, [ask_of(5, 21, logit_bias=((42, 50.0),))])
    assert set(sample.tokens) == {42}
    assert sample.model.logprobs[0] < -1 < sample.logprobs[0]
    # Each time that 42 has come its logit is 2 less: after 25 times more than the bias is gone.
    fields = dict(logit_bias=((42, 50.0),), frequency=2.0, presence=2.0, most=40)
    (sample,) = ended(service.worker, [ask_of(5, 21, **fields)])
    assert 18 < sample.tokens.count(42) < 30


def test_a_prompt_is_scored_as_its_tokens_were_sampled(service, alone):
    ask, (sample,) = CROWD[1], alone[1]
    events: queue.Queue = queue.Queue()
    whole = Ask(prompt=(*ask.prompt, *sample.tokens), n=0, most=0, tops=2, scored=True, ends=(EOS,))
    service.worker.submit([whole], events.put)
    scored = events.get(timeout=120)
    assert isinstance(scored, Scored) and scored.version == 3
    logprobs = scored.scores.logprobs[len(ask.prompt) :]
    np.testing.assert_allclose(logprobs, sample.model.logprobs, atol=2e-5)
    assert all(len(tops) == 2 for tops in scored.scores.tops[1:])


def test_what_was_cut_off_goes_on_as_if_in_one_go(service, alone):
    ask, (sample,) = CROWD[10], alone[10]
    half = 20
    prompt = (*ask.prompt, *sample.tokens[:half])
    (rest,) = ended(
        service.worker, [Ask(prompt=prompt, n=1, most=60, seed=10, ends=(EOS,), continued=half)]
    )
    assert sample.tokens[half:] == rest.tokens and len(sample.tokens) > half


def test_stop_strings_end_a_row_with_the_token_that_completes_one(service, alone):
    (sample,) = alone[10]
    spelling = service.worker.vocabulary.spelling
    text = b"".join(spelling[token] for token in sample.tokens)
    word = next(
        text[place : place + 2].decode("ascii")
        for place in range(6, len(text))
        if text[place : place + 2].isascii()
    )
    (found,) = ended(service.worker, [ask_of(100, 10, most=60, stop=(word,))])
    assert found.reason == StopReason.STOP_STRING
    expected = text.index(word.encode()) + 2
    assert found.tokens == sample.tokens[:expected]


def test_a_stop_string_before_the_wanted_length_has_no_part_in_another_one():
    spelling = [b"a", b"aa", b"ba", b""]
    finder = StopFinder(("aa",), spelling)
    assert [finder.found(token) for token in (0, 0, 0, 3, 0, 2, 1)] == [
        *(False, True, False, False, True, False, True)
    ]


# --- who is next ---------------------------------------------------------------------------------


def test_those_who_ask_for_much_do_not_hold_up_others():
    waiting: FairQueue[str] = FairQueue()
    waiting.add("a", ["a1", "a2", "a3"])
    waiting.add("b", ["b1"])
    assert waiting.first() == "a1"
    order = [waiting.pop(), waiting.pop()]
    waiting.add("c", ["c1", "c2"])
    waiting.add("b", ["b2"])
    assert len(waiting) == 5
    order += [waiting.pop() for _ in range(3)]
    waiting.drop("a")
    order += [waiting.pop() for _ in range(len(waiting))]
    assert order == ["a1", "b1", "a2", "c1", "b2", "c2"]


def test_a_late_short_request_does_not_wait_for_all_rows_of_a_large_one(service):
    """16 rows of 60 tokens are asked for, then one of a single token: it is not the last."""
    order, done = [], threading.Event()

    def deliver(event: Written) -> None:
        order.append(event.sample.number)
        if len(order) == 17:
            done.set()

    late = [ask_of(4, 40, most=1)]
    service.worker.submit([ask_of(4, 41, n=16, most=60, least=60)], deliver)
    service.worker.submit(late, lambda event: (order.append("late"), done.set()))
    done.wait(120)
    assert order.index("late") <= 8


def test_a_full_queue_refuses_and_cancelled_rows_leave(service):
    worker, heard = service.worker, []
    jobs = [
        worker.submit([ask_of(4, 50 + i, n=16, most=100, least=100)], heard.append)
        for i in range(3)
    ]
    with pytest.raises(Overloaded, match=r"at most 64 may wait \(--queue\)"):
        worker.submit([ask_of(4, 60, n=60)], heard.append)
    for job in jobs:
        worker.cancel(job)
    (sample,) = ended(worker, [ask_of(3, 0)])
    assert bits(sample) == bits(ended(worker, [CROWD[0]])[0])
    assert not heard
    assert worker.busy() == {"running": 0, "waiting": 0}


# --- weights -------------------------------------------------------------------------------------


def test_new_weights_wait_for_running_rows_and_no_row_has_two_versions(parts, one_device, service):
    worker, events = service.worker, queue.Queue()
    other = jax.tree.map(lambda x: -x, parts.params)
    long = ask_of(4, 70, n=7, most=80, least=80)
    worker.submit([long], events.put)
    before = ended(worker, [ask_of(3, 0)])
    future = worker.load(other, 4)
    worker.submit([ask_of(3, 0)], events.put)
    assert future.result(60) == 4 and worker.version == 4
    samples = [events.get(timeout=60).sample for _ in range(8)]
    assert [sample.version for sample in samples] == [3] * 7 + [4]
    assert samples[-1].tokens != before[0].tokens
    assert worker.load(parts.params, 3).result(60) == 3
    assert bits(ended(worker, [ask_of(3, 0)])[0]) == bits(before[0])


def test_parameters_that_are_not_finite_fail_the_request_alone(parts, service):
    worker, events = service.worker, queue.Queue()
    worker.load(jax.tree.map(lambda x: x * np.nan, parts.params), 5).result(60)
    worker.submit([ask_of(3, 0)], events.put)
    event = events.get(timeout=60)
    assert isinstance(event, Failed) and "no finite number" in str(event.error)
    worker.load(parts.params, 3).result(60)
    assert len(ended(worker, [ask_of(3, 0)])[0].tokens) > 0


@pytest.mark.slow
def test_the_tokens_do_not_depend_on_the_mesh(parts, mesh_2x2x2, alone):
    """Rows over four shards, the model over two devices."""
    params = jax.device_put(parts.params, replicated(mesh_2x2x2))
    worker = make_worker(parts.network, params, parts.text_format, mesh_2x2x2, LIMITS)
    worker.start()
    for place in (0, 3, 4):
        for sample, expected in zip(ended(worker, [CROWD[place]]), alone[place], strict=True):
            assert sample.tokens == expected.tokens
            np.testing.assert_allclose(sample.logprobs, expected.logprobs, atol=2e-5)
    worker.drain()
    assert worker.join(60)


# --- sizes ---------------------------------------------------------------------------------------


def test_sizes_that_cannot_work_are_refused(parts, one_device):
    with pytest.raises(ValueError, match=r"slots must be >= 1, got 0 \(--slots\)"):
        Limits(slots=0)
    config = parts.network.config
    with pytest.raises(ValueError, match=r"need .* GiB on each device.*--slots, --context"):
        Limits(slots=10**6, context=10**6).check(config, "", one_device)


def test_slots_are_whole_shards_of_rows(parts, mesh_2x2x2):
    with pytest.raises(ValueError, match="slots=6 must be a multiple of the mesh's 4 shards"):
        Limits(slots=6).check(parts.network.config, "", mesh_2x2x2)
    LIMITS.check(parts.network.config, "", mesh_2x2x2)


def test_truncation_of_a_row_sees_the_bias_of_the_worker():
    """As where the worker's filter truncates itself: what is biased upwards is kept."""
    logits = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)
    bias = {"logit_bias": ((0, 10.0),), "forbidden_tokens": (4,)}
    for truncation in ({"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.2}):
        row = jax.tree.map(
            lambda x: np.asarray(x)[None], row_of(most=9, temperature=0.5, **truncation)
        )
        one = np.ones(1, np.int32)
        state = SimpleNamespace(row=row, running=one > 0, written=one)
        allowed = _allowed(logits, state, TokenFilter(**bias))
        expected = log_distribution(logits, TokenFilter(**bias, **truncation, temperature=0.5))
        np.testing.assert_array_equal(allowed, expected > EXCLUDED / 2)
        assert allowed[0, 0]
