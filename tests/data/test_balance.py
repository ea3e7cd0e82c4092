"""Rows whose classes are learned equally often."""

from collections import Counter

from rljax.data.balance import balanced


def test_every_class_stands_as_often_as_the_largest():
    classes = ["true"] * 10 + ["false"] * 4 + ["unknown"]
    places = balanced(classes, seed=3)
    assert Counter(classes[place] for place in places) == {"true": 10, "false": 10, "unknown": 10}
    times = Counter(places)
    # 10 = 2 * 4 + 2: each row twice, two of them once more.
    assert sorted(times[place] for place in range(10, 14)) == [2, 2, 3, 3]
    assert all(times[place] == 1 for place in range(10)) and times[14] == 10
    assert balanced(classes, seed=3) == places == sorted(places)
    assert any(balanced(classes, seed=seed) != places for seed in range(8))


def test_equal_classes_are_as_they_were():
    assert balanced([True, False, False, True], seed=0) == [0, 1, 2, 3] and balanced([], 0) == []
