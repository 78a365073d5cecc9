"""A head is the pair (layer, head), written layer.head."""

import pandas as pd
import pytest

from rgb_circuit.errors import InputError
from rgb_circuit.heads import Head, rows_of


def test_a_head_is_the_pair_of_its_numbers():
    head = Head(19, 6)
    assert head == (19, 6) and {head: 1}[19, 6] == 1 and [head] == [(19, 6)]
    assert sorted([Head(2, 0), (1, 5)]) == [(1, 5), (2, 0)]


def test_a_head_is_written_as_it_is_read():
    assert str(Head(19, 6)) == f"{Head(19, 6)}" == "19.6" and Head.parse("19.6") == Head(19, 6)


def test_a_list_of_heads_prints_as_the_list_of_pairs_does():
    assert repr([Head(19, 6)]) == repr([(19, 6)])


@pytest.mark.parametrize("text", ["", "3", "3.", "3.2.1", "3,2", "a.b"])
def test_what_is_no_head(text):
    with pytest.raises(
        InputError, match=f"^head is {text!r}; write layer.head, both from 0, such as 3.2$"
    ):
        Head.parse(text)


@pytest.mark.parametrize("head", [(1, 0), Head(1, 0)])
def test_the_rows_of_a_head_are_its_own(head):
    frame = pd.DataFrame({"layer": [0, 1, 1, 1], "head": [0, 0, 1, 0], "effect": [1, 2, 3, 4]})
    assert rows_of(frame, head)["effect"].tolist() == [2, 4]
    assert rows_of(frame, (5, 0)).empty
