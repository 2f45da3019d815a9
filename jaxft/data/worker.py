"""A tokenizing worker: numbers the tokens of each chunk of texts it is sent by `jaxft.data.numbering`, which starts it.

It imports the tokenizer and the standard library alone, so that it starts in 0.05 s and holds 15 MB: jax would cost
each worker a second and 150 MB, numpy 0.1 s and 17 MB.
"""

import os
import pickle
import signal
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from jaxft.data.text import (
    BOS,
    MEMO_SIZE,
    REP,
    RULES,
    fix_html,
    repeats_a_word,
    split_runs,
    tokenize_by_rules,
    tokens_of,
)


class NumberedTexts(NamedTuple):
    """A chunk of texts as ids of the worker's own, given out in order of appearance after xxbos and xxrep.

    `lengths` holds the tokens of each text and `ids` all their ids, both as the bytes of C ints; `new_tokens` are the
    tokens that this worker had not met before, in order of their ids.
    """

    lengths: bytes
    ids: bytes
    new_tokens: list[str]


class Numberer:
    """Tokenizes and numbers chunks of texts, and remembers the ids given so far.

    Args:
        pretokenized: Whether the texts are tokens with spaces between them, to be taken as they are.

    Example:
        >>> number = Numberer()
        >>> number(["so good"]).new_tokens
        ['xxbos', 'xxrep', 'so', 'good']
        >>> array("i", number(["so bad"]).ids), number(["bad"]).new_tokens
        (array('i', [0, 2, 4]), [])
    """

    def __init__(self, pretokenized: bool = False) -> None:
        self._pretokenized = pretokenized
        self._ids: defaultdict[str, int] = defaultdict()
        self._ids.default_factory = self._ids.__len__
        self._sent = 0
        self._bos, self._rep = self._encode([BOS]), self._encode([REP])
        # Runs are remembered as bytes, so that a text is a single join, without a step for each token.
        self._encode_run = lru_cache(MEMO_SIZE)(lambda run: self._encode(tokens_of(run)))

    def __call__(self, texts: list[str]) -> NumberedTexts:
        """Numbers one chunk."""
        ids = list(map(self._encode_text, texts))
        lengths = array("i", [len(text) // len(self._bos) for text in ids])
        new_tokens = list(islice(reversed(self._ids), len(self._ids) - self._sent))[::-1]
        self._sent = len(self._ids)
        return NumberedTexts(lengths.tobytes(), b"".join(ids), new_tokens)

    def _encode(self, tokens: Iterable[str]) -> bytes:
        return array("i", map(self._ids.__getitem__, tokens)).tobytes()

    def _encode_text(self, text: str) -> bytes:
        """The ids of `tokenize(text)`, and the same steps, or those of the tokens that a pretokenized text names."""
        if self._pretokenized:
            return self._encode(text.split())
        text = fix_html(text).strip()
        ids = self._bos + b"".join(map(self._encode_run, split_runs(text)))
        return self._encode(tokenize_by_rules(text, RULES[1:])) if repeats_a_word(text, self._rep in ids) else ids


def serve(pretokenized: bool) -> None:
    """Answers each pickled list of texts on standard input with a pickled `NumberedTexts`, until the input ends."""
    # Ctrl-C reaches the whole group of processes; the parent decides, and closes the pipe when it goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number = Numberer(pretokenized)
    while True:
        try:
            texts = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            pickle.dump(tuple(number(texts)), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the parent is gone
            os._exit(0)
