"""Entities as spans, the tags that mark them (BIO, IOB1, BIOES and BILOU), and scores of predicted entities."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Span = tuple[str, int, int]
"""type, first token, and the token after the last"""
Scheme = Literal["BIO", "BIOES"]


KINDS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
"""the kind that each letter stands for; M is the I of BMES, L and U are the E and S of BILOU"""
OUTSIDE = "0o_-*\u039f\u041e\uff2f"
"""what stands for O in some files; the last three are the O of Greek, of Cyrillic and in full width"""
JOINTS = r"[-_:./|\u2010-\u2014]"
"""what joins a letter and a type in some files"""


@dataclass(frozen=True)
class Sentence:
    """One or more tokens, with a tag for each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def split_tag(tag: str) -> tuple[str, str]:
    """Splits a tag into its kind, which is O, B, I, E or S, and the type of its entity.

    Raises:
        ValueError: the tag is neither O nor a letter of `KINDS`, a hyphen and a type; the message names what the tag is
            likely to mean.

    Examples:
        >>> split_tag("B-PER"), split_tag("U-PER"), split_tag("O")
        (('B', 'PER'), ('S', 'PER'), ('O', ''))
    """
    if tag == "O":
        return "O", ""
    letter, hyphen, name = tag.partition("-")
    if letter not in KINDS or not hyphen or not name:
        meaning = likely_meaning(tag)
        hint = f" ({tag!r} likely means {meaning})" if meaning else ""
        raise ValueError(
            f"the tag {tag!r}, which is neither O nor a letter of BIOES or BILOU, a hyphen and a type{hint}"
        )
    return KINDS[letter], name


def likely_meaning(tag: str) -> str:
    """What a tag of another form is likely to mean; empty where nothing is likely.

    Examples:
        >>> likely_meaning("B_PER"), likely_meaning("0"), likely_meaning("??")
        ("'B-PER'", 'the letter O', '')
    """
    letters = "".join(KINDS)
    if len(tag) == 1 and tag in OUTSIDE:
        return "the letter O" if tag.isalnum() else "the letter O, or an empty column"
    if tag.isdecimal():
        return "the number of a tag, whose name is needed"
    if tag.upper() in KINDS:
        return "a letter whose type is missing"
    if match := re.fullmatch(rf"([{letters}]){JOINTS}(.+)", tag, re.IGNORECASE):
        return repr(f"{match[1].upper()}-{match[2]}")
    if match := re.fullmatch(rf"(.+){JOINTS}([{letters}])", tag, re.IGNORECASE):
        return repr(f"{match[2].upper()}-{match[1]}")
    if re.fullmatch(r"[^\W\d_]\w+", tag):
        return f"a type without its letter, as in 'B-{tag}' and 'I-{tag}', or no tag"
    return ""


def read_spans(tags: Sequence[str]) -> list[Span]:
    """The entities that the tags of a sentence mark, in their order; the tags may be of any scheme.

    An I or E that does not follow a tag of its type starts an entity, as in IOB1, and as conlleval and seqeval count.

    Raises:
        ValueError: as `split_tag`.

    Examples:
        >>> read_spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
        [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    spans: list[Span] = []
    previous_kind, span_type, start = "O", "", 0
    for i, tag in enumerate([*tags, "O"]):
        kind, entity_type = split_tag(tag)
        continues = kind in "IE" and previous_kind in "BI" and entity_type == span_type
        if not continues:
            if previous_kind != "O":
                spans.append((span_type, start, i))
            span_type, start = entity_type, i
        previous_kind = kind
    return spans


def write_tags(spans: Sequence[Span], length: int, scheme: Scheme = "BIO") -> list[str]:
    """The tags that mark entities in a sentence of `length` tokens; the entities do not overlap.

    Examples:
        >>> write_tags([("PER", 0, 2), ("LOC", 3, 4)], 4, "BIOES")
        ['B-PER', 'E-PER', 'O', 'S-LOC']
    """
    tags = ["O"] * length
    for name, start, end in spans:
        tags[start:end] = [f"B-{name}", *[f"I-{name}"] * (end - start - 1)]
        if scheme == "BIOES":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}-{name}"
    return tags


def count_orphans(tags: Sequence[str]) -> int:
    """The number of entities that start with an I or E, which IOB1 allows and BIO and BIOES do not.

    Examples:
        >>> count_orphans(["O", "I-PER", "I-PER", "B-LOC"])
        1
    """
    return sum(split_tag(tags[start])[0] in "IE" for _, start, _ in read_spans(tags))


def entity_scores(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Precision, recall and F1 of entities; an entity is right where its type and both its ends are.

    Args:
        true: tags of each sentence, in any scheme.
        predicted: predicted tags of each, as many.

    Returns:
        `n` true entities; `micro_precision`, `micro_recall` and `micro_f1` over all entities; `macro_...`, their means
        over the types that occur on either side; and `per_class`, the scores of each type and its number of entities.
        A score without any entity to count is 0.

    Raises:
        ValueError: sentences that do not fit each other, or as `split_tag`.

    Examples:
        >>> scores = entity_scores([["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "B-LOC"]])
        >>> scores["micro_precision"], scores["micro_recall"], scores["macro_f1"]
        (0.5, 1.0, 0.5)

    References:
        Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003; the counts are conlleval's.
    """
    true_positives, support, predicted_counts = Counter[str](), Counter[str](), Counter[str]()
    for true_tags, predicted_tags in zip(true, predicted, strict=True):
        if len(true_tags) != len(predicted_tags):
            raise ValueError(
                f"a sentence has {len(true_tags)} tags and {len(predicted_tags)} predicted tags: give one predicted "
                "tag per token"
            )
        true_spans, predicted_spans = read_spans(true_tags), read_spans(predicted_tags)
        support.update(name for name, _, _ in true_spans)
        predicted_counts.update(name for name, _, _ in predicted_spans)
        true_positives.update(name for name, _, _ in set(true_spans) & set(predicted_spans))
    names = sorted(support | predicted_counts)
    rows = [{"class": name, **_rates(true_positives[name], predicted_counts[name], support[name])} for name in names]
    micro = _rates(true_positives.total(), predicted_counts.total(), support.total())
    return {
        "n": support.total(),
        **{f"micro_{name}": value for name, value in micro.items() if name != "support"},
        **{
            f"macro_{name}": sum(row[name] for row in rows) / max(1, len(rows))
            for name in ("precision", "recall", "f1")
        },
        "per_class": rows,
    }


def _rates(true_positives: int, predicted_counts: int, support: int) -> dict[str, Any]:
    return {
        "precision": true_positives / max(1, predicted_counts),
        "recall": true_positives / max(1, support),
        "f1": 2 * true_positives / max(1, predicted_counts + support),
        "support": support,
    }
