"""The demo corpus: synthetic film reviews from a small grammar, for trying the whole of ULMFiT offline in minutes.
Called by `open_corpus("demo")`; it says nothing about how well anything does on real texts.

Opinions of one kind meet in one review, and there are hundreds of words for each kind. A few labelled reviews show only
a part of those words; the unlabelled ones show which words keep company with which. So a language model can learn what
the labels alone cannot teach, and this is what the corpus is for.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random

from jaxft.data import demo_words as words
from jaxft.data.document import Corpus, Document, Split

VERSION = 1  # of the texts: raise it with any change to the grammar or the words
POLARITIES = ("negative", "positive")
OPINIONS = (3, 6)  # opinion sentences per review, inclusive
CONTRARY = 0.1  # share of opinions that go against the review's own
NEGATED = 0.08  # share of adjectives said as "not" and one of the other kind

# how often each frame is used, roughly in proportion to the words that it draws from
FRAMES = [
    *["The {aspect} {was} {adjective}."] * 5,
    *["The {aspect} {was} {adjective} and {adjective2}."] * 5,
    *["I found the {aspect} {adjective}."] * 3,
    *["What {a_adjective} {work}."] * 3,
    *["It is {adverb} {craft} and {adverb2} {craft2}."] * 2,
    *["It is {a_adjective}, {adverb} {craft} {work}."] * 1,
    *["I {verb} the {aspect}."] * 1,
    *["The {aspect} {was} {a_noun}."] * 2,
]


def demo_corpus(seed: int = 0, train: int = 100, test: int = 1000, unlabelled: int = 6000) -> Corpus:
    """The generated corpus, the same on every platform; classes are balanced in each split.

    Args:
      seed: another seed gives other reviews from the same grammar.
      train: number of labelled reviews to train on.
      test: number of labelled reviews to test on.
      unlabelled: number of reviews whose polarity is withheld.

    >>> first = next(demo_corpus().documents())
    >>> first.label, first.split
    ('negative', 'train')
    """
    settings = f"jaxft demo version {VERSION}: {seed=} {train=} {test=} {unlabelled=}"
    sizes: dict[Split, int] = {"train": train, "test": test, "unlabelled": unlabelled}
    return Corpus("demo", hashlib.sha256(settings.encode()).hexdigest(), partial(_documents, seed, sizes))


def _documents(seed: int, sizes: dict[Split, int]) -> Iterator[Document]:
    for split, size in sizes.items():
        for index in range(size):
            # each review has a generator of its own, so that one split's size leaves the others as they are
            draw = _Draw(f"{seed} {split} {index}")
            polarity = POLARITIES[index % 2]
            yield Document(_review(draw, polarity), None if split == "unlabelled" else polarity, split)


class _Draw:
    """Random choices that rest on `Random.random` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, seed: str):
        self._uniform = Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._uniform() < probability

    def between(self, low: int, high: int) -> int:
        return low + int(self._uniform() * (high - low + 1))

    def one(self, options: Sequence[str]) -> str:
        return options[int(self._uniform() * len(options))]

    def two(self, options: Sequence[str]) -> tuple[str, str]:
        """Two different options."""
        first, step = self.between(0, len(options) - 1), self.between(1, len(options) - 1)
        return options[first], options[(first + step) % len(options)]


def _review(draw: _Draw, polarity: str) -> str:
    genre, work = draw.one(words.GENRES), draw.one(words.WORKS)
    sentences = [f"I saw this {draw.one([genre, work])} {draw.one(words.OCCASIONS)}."]
    if draw.chance(0.6):
        sentences.append(f"It is about {_a(draw.one(words.PEOPLE))} who {draw.one(words.DEEDS)}.")
    sentences += [_opinion(draw, polarity, work) for _ in range(draw.between(*OPINIONS))]
    if draw.chance(0.5):
        sentences.insert(draw.between(1, len(sentences)), draw.one(words.REMARKS))
    paragraph = draw.between(2, len(sentences) - 1) if draw.chance(0.15) else 0
    if paragraph:  # as IMDB's own pages mark it
        sentences[paragraph] = f"<br /><br />{sentences[paragraph]}"
    return " ".join(sentences).replace(" <br />", "<br />")


def _opinion(draw: _Draw, polarity: str, work: str) -> str:
    contrary = draw.chance(CONTRARY)
    if contrary:
        polarity = _other(polarity)
    plural = draw.chance(0.35)
    aspect = draw.one(words.PLURAL_ASPECTS if plural else words.SINGULAR_ASPECTS)
    adjective, adjective2 = draw.two(words.ADJECTIVES[polarity])
    adverb, adverb2 = draw.two(words.ADVERBS[polarity])
    craft, craft2 = draw.two(words.CRAFTS)
    frame = draw.one(FRAMES)
    a_adjective = _a(adjective)
    if "{adjective}" in frame and draw.chance(NEGATED):
        adjective = f"not {draw.one(words.ADJECTIVES[_other(polarity)])}"
    return frame.format(
        aspect=aspect,
        was="were" if plural else "was",
        adjective=adjective,
        adjective2=adjective2,
        a_adjective=a_adjective,
        adverb=adverb,
        adverb2=adverb2,
        craft=craft,
        craft2=craft2,
        verb=draw.one(words.VERBS[polarity]),
        a_noun=_a(draw.one(words.NOUNS[polarity])),
        work=work,
    )


def _other(polarity: str) -> str:
    return POLARITIES[1 - POLARITIES.index(polarity)]


def _a(word: str) -> str:
    """The word behind its indefinite article.

    >>> [_a(word) for word in ("bore", "awful", "useless", "honest")]
    ['a bore', 'an awful', 'a useless', 'an honest']
    """
    vowel = word == "honest" or (word[0] in "aeiou" and word != "useless")
    return f"{'an' if vowel else 'a'} {word}"
