"""The tokenizing worker process: turns chunks of texts into token ids.

`jaxft.data.numbering` starts it and sends the chunks. It imports the tokenizer and the standard library alone, so that
it starts in 0.05 s and holds 15 MB; jax would add a second and 150 MB to each worker, numpy 0.1 s and 17 MB.
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
    CACHED_RUNS,
    REP,
    RULES,
    fix_html,
    repeats_a_word,
    split_runs,
    tokenize_by_rules,
    tokens_of,
)


class NumberedTexts(NamedTuple):
    """A chunk of texts as ids of one worker, which numbers tokens in order of appearance, after xxbos and xxrep.

    Attributes:
        lengths: the number of tokens of each text, as the bytes of C ints.
        ids: the ids of all texts in a row, as the bytes of C ints.
        new_tokens: the tokens that are new to this worker, in order of their ids.
    """

    lengths: bytes
    ids: bytes
    new_tokens: list[str]


class Numberer:
    """Tokenizes and numbers chunks of texts; a token keeps its id from chunk to chunk.

    Args:
        pretokenized: whether the texts are tokens separated by spaces, to be used as they are.

    Examples:
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
        # The cache holds runs as bytes, so that a text is a single join, without a step for each token.
        self._encode_run = lru_cache(CACHED_RUNS)(lambda run: self._encode(tokens_of(run)))

    def __call__(self, texts: list[str]) -> NumberedTexts:
        """Tokenizes and numbers one chunk."""
        ids = list(map(self._encode_text, texts))
        lengths = array("i", [len(text) // len(self._bos) for text in ids])
        new_tokens = list(islice(reversed(self._ids), len(self._ids) - self._sent))[::-1]
        self._sent = len(self._ids)
        return NumberedTexts(lengths.tobytes(), b"".join(ids), new_tokens)

    def _encode(self, tokens: Iterable[str]) -> bytes:
        return array("i", map(self._ids.__getitem__, tokens)).tobytes()

    def _encode_text(self, text: str) -> bytes:
        """The ids of the tokens of a text: those of `tokenize(text)`, or those that a pretokenized text lists."""
        if self._pretokenized:
            return self._encode(text.split())
        text = fix_html(text).strip()
        ids = self._bos + b"".join(map(self._encode_run, split_runs(text)))
        return self._encode(tokenize_by_rules(text, RULES[1:])) if repeats_a_word(text, self._rep in ids) else ids


def serve(pretokenized: bool) -> None:
    """Answers each pickled list of texts on standard input with a pickled `NumberedTexts`, until the input ends."""
    # Ctrl-C reaches the whole group of processes; the parent handles it, and its end closes the pipe.
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
        except BrokenPipeError:  # the parent has ended
            os._exit(0)
