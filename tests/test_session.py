"""What the session rests on: work done once for all workers, flags tried first, tolerances."""

import concurrent.futures
import time

import numpy as np
import pytest

from tests.flags import knows_flag, with_flags
from tests.once import once
from tests.tolerance import assert_same_sums, rounding


def _count(folder):
    def make():
        with open(folder / "made", "a") as file:
            file.write("x")
        time.sleep(0.1)  # the others ask meanwhile
        return {"value": 3}

    return once(folder, "it", make)


def test_the_first_that_asks_does_the_work_for_all(tmp_path):
    # Threads: the lock belongs to an open file, so they exclude each other as processes do.
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(_count, [tmp_path] * 6)) == [{"value": 3}] * 6
    assert (tmp_path / "made").read_text() == "x"


def test_work_that_failed_is_tried_again(tmp_path):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        once(tmp_path, "it", fail)
    assert _count(tmp_path) == {"value": 3}


def test_an_unknown_flag_is_found_out_and_a_given_one_is_left():
    assert not knows_flag("xla_no_such_flag", "1")
    assert with_flags("--xla_a=1", {"xla_a": 2, "xla_b": 3}) == "--xla_a=1 --xla_b=3"


def test_sums_in_another_order_pass_and_another_number_does_not():
    terms = np.random.default_rng(0).normal(size=(500, 200)).astype(np.float32) * 30
    forward, backward = (
        np.cumsum(t, axis=1, dtype=np.float32)[:, -1] for t in (terms, terms[:, ::-1])
    )
    assert (forward != backward).any()
    assert_same_sums(forward, backward, terms=200)
    wrong = forward + np.eye(1, 500, dtype=np.float32)[0] * 3 * rounding(forward, 200)
    with pytest.raises(AssertionError):
        assert_same_sums(wrong, backward, terms=200)
