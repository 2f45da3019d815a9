"""Tokens become a text that reads well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.detokenize import detokenize
from jaxft.data.text import SPECIALS, tokenize


@pytest.mark.parametrize(
    "text",
    [
        "I liked this movie because it's good.",
        "Don't miss it!!! They'll say (and I've heard) \"no way\", won't they?",
        "Well-known and/or 10% of $5; see [one].",
        "So so so good\n\nNew paragraph: GREAT film.",
    ],
)
def test_a_text_comes_back(text: str):
    assert detokenize(tokenize(text)) == text


@given(st.lists(st.sampled_from([*SPECIALS, "film", "3", '"', "(", "\n\n", "'s", "."]), max_size=12))
def test_any_tokens_make_a_text_without_marks(tokens: list[str]):
    assert not any(mark in detokenize(tokens) for mark in SPECIALS)


def test_a_repetition_that_was_made_up_stays_short():
    assert len(detokenize(["xxrep", "999999999", "o"])) <= 100
    assert detokenize(["xxrep", "many", "o", "xxwrep"]) == "o "
