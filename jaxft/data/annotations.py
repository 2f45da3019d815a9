"""Exports of annotation tools as rows with `text` and `spans`: doccano, Prodigy, Label Studio and spaCy.

`plain_row` recognises each by its fields; other rows stay as they are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxft.data.alignment import align, in_order
from jaxft.data.spans import Span
from jaxft.errors import InputError

TYPE_KEYS = ("type", "label", "labels", "entity_group", "entity", "tag")
START_KEYS = ("start", "start_offset", "start_char", "begin")
END_KEYS = ("end", "end_offset", "end_char")
CUT = "spans begin or end within a token and take the whole of it, or have no token and are left out"
REJECTED = "examples whose answer is reject or ignore are skipped"
UNMARKED = "tasks without a finished annotation are skipped"
REPEATED = "further annotations of tasks that have several are left out"


def plain_row(value: Any, where: str, counts: Counter[str]) -> dict[str, Any] | None:
    """The fields of an example: `text` with `spans`, or as they are; None for one that is to be skipped.

    Args:
        value: an object, or a list of a text and its annotations.
        where: its place, for messages.
        counts: counts what is skipped, by what to tell the user.

    Raises:
        InputError: it is neither of the two, or of a form that lacks something.

    Examples:
        >>> plain_row(["Ada left", {"entities": [[0, 3, "PER"]]}], "a.json, item 1", Counter())
        {'text': 'Ada left', 'spans': [[0, 3, 'PER']]}
    """
    if isinstance(value, list | tuple) and len(value) >= 2 and isinstance(value[0], str):
        spans = value[1].get("entities", []) if isinstance(value[1], Mapping) else value[1]
        return {"text": value[0], "spans": spans}
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is neither an object nor a text with its spans: give one of them per sentence")
    fields = dict(value)
    if isinstance(fields.get("data"), Mapping):
        return _label_studio(fields, where, counts)
    if fields.get("answer") in ("reject", "ignore"):
        counts[REJECTED] += 1
        return None
    if "answer" in fields or "_input_hash" in fields:
        return _prodigy(fields, where, counts)
    if "annotation_id" in fields or "annotator" in fields:
        text = fields.get("text")
        return {"text": text, "spans": list(_regions(_marked(fields), text, where)) if isinstance(text, str) else []}
    if isinstance(fields.get("data"), str) and "text" not in fields:  # an older export of doccano
        fields["text"] = fields.pop("data")
    if isinstance(fields.get("annotations"), list) and isinstance(fields.get("text"), str):
        return {"text": fields["text"], "spans": fields["annotations"]}
    return fields


def read_span(item: Any, where: str) -> Span:
    """The span of an item: a mapping with its start, end and type, or a triple of them, in characters.

    Raises:
        InputError: it is something else.

    Examples:
        >>> read_span({"start_offset": 0, "end_offset": 3, "label": "PER"}, "row 1"), read_span([0, 3, "PER"], "row 1")
        (('PER', 0, 3), ('PER', 0, 3))
    """
    try:
        if isinstance(item, Mapping):
            name, start, end = [
                next(item[key] for key in keys if key in item) for keys in (TYPE_KEYS, START_KEYS, END_KEYS)
            ]
        else:
            start, end, name = item
        if isinstance(name, list | tuple) and len(name) == 1:
            (name,) = name
        if not isinstance(name, str) or float(start) % 1 or float(end) % 1:
            raise TypeError("a type is a name, and a place is a whole number")
        return name, int(start), int(end)
    except (StopIteration, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where} has the span {item!r}: give its start, end and type") from error


def _prodigy(fields: Mapping[str, Any], where: str, counts: Counter[str]) -> dict[str, Any]:
    """A row of Prodigy, whose tokens are those that the annotator saw."""
    text, tokens, spans = fields.get("text"), fields.get("tokens"), fields.get("spans") or []
    split = {name: fields[name] for name in ("split",) if name in fields}
    if not isinstance(text, str) or not tokens:
        return {"text": text, "spans": spans, **split}
    try:
        places = [(int(token["start"]), int(token["end"])) for token in tokens]
        tags, cut = align(places, in_order([read_span(span, where) for span in spans], len(text)))
    except (KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{where} has a token without a start and an end: export it from Prodigy again") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} has a span that does not fit its text ({error}): correct it") from error
    counts[CUT] += cut
    return {"tokens": [text[start:end] for start, end in places], "tags": tags, **split}


def _label_studio(task: Mapping[str, Any], where: str, counts: Counter[str]) -> dict[str, Any] | None:
    """The text of a task of Label Studio with the regions of its first finished annotation."""
    found = _mappings(task.get("annotations", task.get("completions")))
    finished = [one for one in found if not one.get("was_cancelled")]
    if not finished:
        counts[UNMARKED] += 1
        return None
    counts[REPEATED] += len(finished) - 1
    chosen = next((one for one in finished if one.get("ground_truth")), finished[0])
    data = task["data"]
    texts = [value for value in data.values() if isinstance(value, str)]
    text = data.get("text", texts[0] if len(texts) == 1 else None)
    if not isinstance(text, str):
        raise InputError(f"{where} has no text in its data, only {', '.join(map(repr, data))}: call it 'text'")
    values = _mappings([region.get("value") for region in _mappings(chosen.get("result"))])
    return {"text": text, "spans": list(_regions(values, text, where))}


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; other values mark nothing."""
    return [one for one in values if isinstance(one, Mapping)] if isinstance(values, list | tuple) else []


def _marked(fields: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The regions of a row of Label Studio's short JSON, whose column has the name that the project gives it."""
    lists = map(_mappings, fields.values())
    return next((regions for regions in lists if any("start" in region for region in regions)), [])


def _regions(values: Sequence[Mapping[str, Any]], text: str, where: str) -> Iterator[dict[str, Any]]:
    for value in values:
        if "start" not in value or not (labels := _labels(value)):
            continue  # a relation between regions, or a choice for the whole text
        span = {"start": value["start"], "end": value.get("end"), "label": labels}
        _, start, end = read_span(span, where)
        marked = value.get("text")
        if isinstance(marked, str) and text[start:end].split() != marked.replace("\\n", "\n").split():
            raise InputError(
                f"{where} has {text[start:end]!r} at the characters {start} to {end}, and {marked!r} in its "
                "annotation: export it again"
            )
        yield span


def _labels(value: Mapping[str, Any]) -> Any:
    return next((value[key] for key in ("labels", "hypertextlabels") if value.get(key)), None)
