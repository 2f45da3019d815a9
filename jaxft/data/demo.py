"""The demo corpus: synthetic film reviews from a small grammar, to try all stages of ULMFiT offline in minutes.

`open_corpus("demo")` returns it. Scores on it say nothing about real texts.

Most opinions of a review have the same polarity, and each polarity has hundreds of words, a few of them common and most
of them rare, as in real texts. The labelled reviews contain only a part of these words; the unlabelled ones show which
words occur together. So a language model can learn more from the corpus than the labels alone teach.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random

from jaxft.data import demo_words as words
from jaxft.data.document import Corpus, Document, Split

VERSION = 2  # of the texts: raise it with any change of the grammar or the words
POLARITIES = ("negative", "positive")
OPINIONS = (3, 5)  # opinion sentences per review, inclusive
CONTRARY = 0.1  # share of opinion sentences of the other polarity

# Opinions are close together in a sentence, because a language model learns first which words are neighbours.
FRAMES = """
The {aspect} {was} {adjective} and {adjective2}.
The {aspect} {was} {adjective}, {adjective2} and {adjective3}.
The {aspect} {was} {adverb} {adjective}.
The {aspect} {was} {adjective} and the {aspect2} {was2} {adjective2}.
I found the {aspect} {adjective} and {adjective2}.
I {verb} the {adjective} {aspect} and the {adjective2} {aspect2}.
What {a_adjective}, {adjective2} {work}.
It is {adverb} {craft} and {adverb2} {craft2}.
It is {a_adjective} and {adverb} {craft} {work}.
It is {a_adjective} {noun}, {adverb} {craft}.
""".strip().splitlines()


def demo_corpus(seed: int = 0, train: int = 100, test: int = 1000, unlabelled: int = 6000) -> Corpus:
    """Generates the corpus, which is the same on every platform and balanced in each split.

    Args:
        seed: seed of the reviews.
        train: number of labelled reviews to train on.
        test: number of labelled reviews to test on.
        unlabelled: number of reviews without a label.

    Examples:
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
            # each review has its own generator, so that the size of one split does not change the others
            draw = _Draw(f"{seed} {split} {index}")
            polarity = POLARITIES[index % 2]
            yield Document(_review(draw, polarity), None if split == "unlabelled" else polarity, split)


class _Draw:
    """Random choices by `Random.random` alone, the only method whose sequence Python guarantees."""

    def __init__(self, seed: str):
        self._uniform = Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._uniform() < probability

    def between(self, low: int, high: int) -> int:
        return low + int(self._uniform() * (high - low + 1))

    def one(self, options: Sequence[str]) -> str:
        return options[int(self._uniform() * len(options))]

    def common(self, options: Sequence[str]) -> str:
        """One of the options, with a probability that falls with its rank r as r ** (-1 / 2)."""
        uniform = self._uniform()
        return options[int(uniform * uniform * len(options))]

    def several(self, options: Sequence[str], count: int, common: bool = False) -> list[str]:
        """So many different options, in random order."""
        chosen: list[str] = []
        while len(chosen) < count:
            if (option := self.common(options) if common else self.one(options)) not in chosen:
                chosen.append(option)
        return chosen


def _review(draw: _Draw, polarity: str) -> str:
    genre, work = draw.one(words.GENRES), draw.one(words.WORKS)
    sentences = [f"I saw this {draw.one([genre, work])} {draw.one(words.OCCASIONS)}."]
    if draw.chance(0.6):
        sentences.append(f"It is about {_a(draw.one(words.PEOPLE))} who {draw.one(words.DEEDS)}.")
    sentences += [_opinion(draw, polarity, work) for _ in range(draw.between(*OPINIONS))]
    if draw.chance(0.5):
        sentences.insert(draw.between(1, len(sentences)), draw.one(words.REMARKS))
    paragraph = draw.between(2, len(sentences) - 1) if draw.chance(0.15) else 0
    if paragraph:  # with the mark that IMDB uses
        sentences[paragraph] = f"<br /><br />{sentences[paragraph]}"
    return " ".join(sentences).replace(" <br />", "<br />")


def _opinion(draw: _Draw, polarity: str, work: str) -> str:
    if draw.chance(CONTRARY):
        polarity = _other(polarity)
    aspect, aspect2 = draw.several(words.ASPECTS, 2)
    adjectives = draw.several(words.ADJECTIVES[polarity], 3, common=True)
    adverb, adverb2 = draw.several(words.ADVERBS[polarity], 2, common=True)
    craft, craft2 = draw.several(words.CRAFTS, 2)
    return draw.one(FRAMES).format(
        aspect=aspect,
        aspect2=aspect2,
        was=_was(aspect),
        was2=_was(aspect2),
        a_adjective=_a(adjectives[0]),
        adjective=adjectives[0],
        adjective2=adjectives[1],
        adjective3=adjectives[2],
        adverb=adverb,
        adverb2=adverb2,
        craft=craft,
        craft2=craft2,
        verb=draw.common(words.VERBS[polarity]),
        noun=draw.common(words.NOUNS[polarity]),
        work=work,
    )


def _was(aspect: str) -> str:
    return "were" if aspect in words.PLURAL_ASPECTS else "was"


def _other(polarity: str) -> str:
    return POLARITIES[1 - POLARITIES.index(polarity)]


def _a(word: str) -> str:
    """The word after its indefinite article.

    Examples:
        >>> [_a(word) for word in ("bore", "awful", "useless", "honest")]
        ['a bore', 'an awful', 'a useless', 'an honest']
    """
    vowel = word == "honest" or (word[0] in "aeiou" and word != "useless")
    return f"{'an' if vowel else 'a'} {word}"
