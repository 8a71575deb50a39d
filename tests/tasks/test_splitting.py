"""What is held out is never seen in another form."""

from __future__ import annotations

import pytest

from sightline.tasks.splitting import fold, split

PAIRS = [(f"source {n % 30}", f"target {n}") for n in range(100)]


def source(pair):
    return pair[0]


def test_a_source_lies_in_one_part_alone():
    rest, held = split(PAIRS, 0, 0.2, source)
    assert sorted(rest + held) == sorted(PAIRS) and len({source(p) for p in held}) == 6
    assert not {source(p) for p in rest} & {source(p) for p in held}
    assert split(PAIRS, 0, 0.2, source) == (rest, held) != split(PAIRS, 1, 0.2, source)


@pytest.mark.parametrize("key", [None, source])
def test_every_example_is_tested_once_over_all_folds(key):
    tested = []
    for number in range(3):
        rest, held = fold(PAIRS, number, 3, 7, key)
        assert sorted(rest + held) == sorted(PAIRS)
        tested += held
    assert sorted(tested) == sorted(PAIRS)
