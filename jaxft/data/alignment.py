"""Spans of characters as tags of tokens."""

from collections.abc import Sequence

from jaxft.data.spans import Span, split_tag, write_tags


def in_order(spans: Sequence[Span], length: int) -> list[Span]:
    """The spans in the order of the text, each once.

    Raises:
        ValueError: a span is not within the text, or overlaps another.

    Examples:
        >>> in_order([("LOC", 4, 9), ("PER", 0, 3)], 9)
        [('PER', 0, 3), ('LOC', 4, 9)]
    """
    ordered = sorted(dict.fromkeys(spans), key=lambda span: span[1:])
    before = ("", 0, 0)
    for span in ordered:
        name, start, end = span
        split_tag(f"B-{name}")
        if not 0 <= start < end <= length:
            raise ValueError(f"{name} from {start} to {end - 1} is not in the text")
        if start < before[2]:
            raise ValueError(
                f"{name} from {start} to {end - 1} overlaps another entity, {before[0]} from {before[1]} to "
                f"{before[2] - 1}, and a token has one tag"
            )
        before = span
    return ordered


def align(places: Sequence[tuple[int, int]], spans: Sequence[Span]) -> tuple[list[str], int]:
    """The tags of tokens, and the number of spans that do not begin and end where tokens do.

    A span that cuts a token takes the whole token, unless the span before has it. One without a token of its own is
    left out.

    Args:
        places: first character of each token, and the character after its last.
        spans: in order, in characters.

    Examples:
        >>> align([(0, 3), (4, 9)], [("PER", 0, 2), ("LOC", 4, 9)])
        (['B-PER', 'B-LOC'], 1)
    """
    token_spans, cut, free = [], 0, 0
    for name, start, end in spans:
        inside = [i for i, (a, b) in enumerate(places) if a < end and b > start and i >= free]
        cut += not inside
        if inside:
            first, last = inside[0], inside[-1]
            cut += places[first][0] < start or places[last][1] > end
            token_spans.append((name, first, last + 1))
            free = last + 1
    return write_tags(token_spans, len(places)), cut
