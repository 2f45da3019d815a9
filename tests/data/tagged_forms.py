"""The same sentences in every form that tagged sentences come in, as writers of the text of a file."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from jaxft.data.spans import Sentence, read_spans

TRUTH = [
    Sentence(("Mara", "Keller", "lives", "in", "Minsk", "."), ("B-PER", "I-PER", "O", "O", "B-LOC", "O")),
    Sentence(("Nobody", "came", "today"), ("O", "O", "O")),
    Sentence(("The", "Orbit", "Group", "hired", "Ivo", ",", "too"), ("O", "B-ORG", "I-ORG", "O", "B-PER", "O", "O")),
    Sentence(("#", "New", "Old", "Havel"), ("O", "B-LOC", "I-LOC", "I-LOC")),
]
Sentences = Sequence[Sentence]


def text_of(sentence: Sentence) -> str:
    return " ".join(sentence.tokens)


def char_spans(sentence: Sentence) -> list[tuple[int, int, str]]:
    """First character, the character after the last, and type of each entity."""
    starts = [len(" ".join(["", *sentence.tokens[:i]])) for i in range(len(sentence.tokens))]
    ends = [start + len(token) for start, token in zip(starts, sentence.tokens, strict=True)]
    return [(starts[a], ends[b - 1], name) for name, a, b in read_spans(sentence.tags)]


def retagged(sentence: Sentence, inside: str, last: str, single: str) -> list[str]:
    """The tags with other letters inside an entity, at its end, and for one of a single token."""
    tags = list(sentence.tags)
    for name, start, end in read_spans(sentence.tags):
        tags[start:end] = [f"B-{name}", *[f"{inside}-{name}"] * (end - start - 2), f"{last}-{name}"][: end - start]
        if end - start == 1:
            tags[start] = f"{single}-{name}"
    return tags


def columns(
    row: Callable[[int, str, str], Sequence[str]], joined: str, before: str = "", letters: str = ""
) -> Callable[[Sentences], str]:
    """Writes a line per token, whose columns `row` makes of its place, the token and its tag."""

    def write(sentences: Sentences) -> str:
        blocks = []
        for number, sentence in enumerate(sentences):
            tags = retagged(sentence, *letters) if letters else sentence.tags
            rows = (row(i, token, tag) for i, (token, tag) in enumerate(zip(sentence.tokens, tags, strict=True), 1))
            blocks.append(before.format(number) + "".join(joined.join(cells) + "\n" for cells in rows))
        return "\n".join(blocks)

    return write


def token_table(header: Sequence[str], delimiter: str, name: Callable[[int, int], str]) -> Callable[[Sentences], str]:
    """Writes a header and a row per token, whose sentence `name` names by the numbers of sentence and token."""

    def write(sentences: Sentences) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        for number, sentence in enumerate(sentences, 1):
            for i, (token, tag) in enumerate(zip(sentence.tokens, sentence.tags, strict=True)):
                writer.writerow([name(number, i), token, "NN", tag])
        return stream.getvalue()

    return write


def rows(row: Callable[[Sentence], Any], layout: str = "lines") -> Callable[[Sentences], str]:
    """Writes a JSON value per sentence: one in each line, a list, an indented list, or a list in an object."""

    def write(sentences: Sentences) -> str:
        values = [row(sentence) for sentence in sentences]
        if layout == "lines":
            return "".join(json.dumps(value) + "\n" for value in values)
        if layout in ("list", "indented"):
            return json.dumps(values, indent=2 if layout == "indented" else None)
        return json.dumps({layout: values})

    return write


def json_columns(sentences: Sentences) -> str:
    """Writes one object with a list of all tokens and one of all tags."""
    return json.dumps({"tokens": [list(s.tokens) for s in sentences], "tags": [list(s.tags) for s in sentences]})


def tokens_and_tags(tokens: str, tags: str) -> Callable[[Sentence], dict[str, Any]]:
    return lambda sentence: {"id": 1, tokens: list(sentence.tokens), tags: list(sentence.tags)}


def doccano(name: str) -> Callable[[Sentence], dict[str, Any]]:
    return lambda sentence: {"id": 1, "text": text_of(sentence), name: char_spans(sentence), "Comments": []}


def doccano_entities(name: str) -> Callable[[Sentence], dict[str, Any]]:
    def row(sentence: Sentence) -> dict[str, Any]:
        spans = [{"id": 1, "label": n, "start_offset": a, "end_offset": b} for a, b, n in char_spans(sentence)]
        return {"id": 1, "text": text_of(sentence), name: spans, "relations": [], "Comments": []}

    return row


def prodigy(sentence: Sentence) -> dict[str, Any]:
    text, tokens, place = text_of(sentence), [], 0
    for i, token in enumerate(sentence.tokens):
        tokens.append({"text": token, "start": place, "end": place + len(token), "id": i, "ws": True})
        place += len(token) + 1
    spans = [
        {"start": a, "end": b, "token_start": first, "token_end": after - 1, "label": name}
        for (a, b, name), (_, first, after) in zip(char_spans(sentence), read_spans(sentence.tags), strict=True)
    ]
    marked = {"spans": spans} if spans else {}
    return {"text": text, "_input_hash": 1, "_task_hash": 2, "tokens": tokens, **marked, "answer": "accept"}


def prodigy_of_text(sentence: Sentence) -> dict[str, Any]:
    return {name: value for name, value in prodigy(sentence).items() if name != "tokens"}


def label_studio(name: str = "annotations", text: str = "text") -> Callable[[Sentence], dict[str, Any]]:
    def row(sentence: Sentence) -> dict[str, Any]:
        result = [
            {"id": "x", "from_name": "label", "to_name": "text", "type": "labels", "value": region}
            for region in label_studio_regions(sentence)
        ]
        cancelled = {"was_cancelled": True, "result": []}
        return {"id": 1, "data": {text: text_of(sentence)}, name: [cancelled, {"result": result}], "predictions": []}

    return row


def label_studio_regions(sentence: Sentence) -> list[dict[str, Any]]:
    text = text_of(sentence)
    return [{"start": a, "end": b, "text": text[a:b], "labels": [name]} for a, b, name in char_spans(sentence)]


def label_studio_short(sentence: Sentence) -> dict[str, Any]:
    regions = label_studio_regions(sentence)
    marked = {"ner": regions} if regions else {}
    return {"id": 1, "text": text_of(sentence), **marked, "annotator": 1, "annotation_id": 7, "lead_time": 2.5}


def spacy_pair(sentence: Sentence) -> list[Any]:
    return [text_of(sentence), {"entities": char_spans(sentence)}]


def spacy_object(sentence: Sentence) -> dict[str, Any]:
    return {"text": text_of(sentence), "entities": char_spans(sentence)}


FORMS: dict[str, tuple[str, Callable[[Sentences], str]]] = {
    "columns, spaces": ("train", columns(lambda i, token, tag: (token, tag), " ")),
    "columns, several spaces": ("train.txt", columns(lambda i, token, tag: (token, "NN", tag), "   ")),
    "columns, tabs": ("train.tsv", columns(lambda i, token, tag: (token, tag), "\t")),
    "columns, semicolons": ("train.txt", columns(lambda i, token, tag: (token, tag), ";")),
    "columns, bars": ("train.txt", columns(lambda i, token, tag: (token, tag), "|")),
    "CoNLL-2003": (
        "eng.train",
        lambda sentences: "-DOCSTART- -X- O O\n\n" + columns(lambda i, a, b: (a, "NN", "NP", b), " ")(sentences),
    ),
    "Label Studio's columns": (
        "train.conll",
        lambda sentences: "-DOCSTART- -X- O\n" + columns(lambda i, a, b: (a, "-X-", "_", b), " ")(sentences),
    ),
    "comments, # id": ("train.txt", columns(lambda i, a, b: (a, b), " ", "# id {}\n")),
    "comments, # sent_id": (
        "train.txt",
        columns(lambda i, a, b: (a, "NN", "X", b), " ", "# sent_id = {}\n# text = a\n"),
    ),
    "comments, tabs": ("train.txt", columns(lambda i, a, b: (a, b), "\t", "#\thttp://example.org/{} [2009-10-17]\n")),
    "comments, #": ("train.txt", columns(lambda i, a, b: (a, b), "\t", "#\n#\n")),
    "BIOES": ("train.txt", columns(lambda i, a, b: (a, b), " ", letters="IES")),
    "BILOU": ("train.txt", columns(lambda i, a, b: (a, b), " ", letters="ILU")),
    "BMES": ("train.txt", columns(lambda i, a, b: (a, b), " ", letters="MES")),
    "Kaggle": (
        "ner.csv",
        token_table(("Sentence #", "Word", "POS", "Tag"), ",", lambda n, i: "" if i else f"Sentence: {n}"),
    ),
    "Kaggle, each row named": (
        "ner.csv",
        token_table(("sentence_idx", "word", "pos", "tag"), ",", lambda n, i: str(n)),
    ),
    "Kaggle, semicolons": ("ner.csv", token_table(("Sentence #", "Word", "POS", "Tag"), ";", lambda n, i: f"S{n}")),
    "Kaggle, tabs": ("ner.tsv", token_table(("sentence_id", "Token", "POS", "NER_Tag"), "\t", lambda n, i: str(n))),
    "Kaggle without quotes": (
        "ner.csv",
        lambda sentences: FORMS["Kaggle"][1](sentences).replace('","', ","),
    ),
    "a header and blank lines": (
        "train.tsv",
        lambda sentences: "token\tlabel\n" + columns(lambda i, token, tag: (token, tag), "\t")(sentences),
    ),
    "tokens and tags": ("train.jsonl", rows(tokens_and_tags("tokens", "tags"))),
    "tokens and ner_tags": ("train.json", rows(tokens_and_tags("tokens", "ner_tags"))),
    "words and ner": ("train.json", rows(tokens_and_tags("words", "ner"))),
    "tokens and tags, list": ("train.json", rows(tokens_and_tags("tokens", "tags"), "list")),
    "tokens and tags, indented": ("train.json", rows(tokens_and_tags("tokens", "labels"), "indented")),
    "tokens and tags, data": ("train.json", rows(tokens_and_tags("tokens", "ner_tags"), "data")),
    "tokens and tags, train": ("all.json", rows(tokens_and_tags("tokens", "ner_tags"), "train")),
    "tokens and tags, columns": ("train.json", json_columns),
    "tokens and tags in .txt": ("train.txt", rows(tokens_and_tags("tokens", "tags"))),
    "doccano": ("train.jsonl", rows(doccano("label"))),
    "doccano, labels": ("train.json", rows(doccano("labels"))),
    "doccano, data": (
        "train.jsonl",
        rows(lambda sentence: {"id": 1, "data": text_of(sentence), "label": char_spans(sentence)}),
    ),
    "doccano, list": ("train.json", rows(doccano("label"), "list")),
    "doccano, entities": ("train.jsonl", rows(doccano_entities("entities"))),
    "doccano, annotations": ("train.json", rows(doccano_entities("annotations"))),
    "Prodigy": ("train.jsonl", rows(prodigy)),
    "Prodigy without tokens": ("train.jsonl", rows(prodigy_of_text)),
    "Label Studio": ("train.json", rows(label_studio(), "list")),
    "Label Studio, indented": ("train.json", rows(label_studio(), "indented")),
    "Label Studio, lines": ("train.jsonl", rows(label_studio())),
    "Label Studio, completions": ("train.json", rows(label_studio("completions", "review"), "list")),
    "Label Studio, short": ("train.json", rows(label_studio_short, "list")),
    "spaCy": ("train.json", rows(spacy_pair, "list")),
    "spaCy, indented": ("train.json", rows(spacy_pair, "indented")),
    "spaCy, lines": ("train.jsonl", rows(spacy_pair)),
    "spaCy, objects": ("train.jsonl", rows(spacy_object)),
    "spaCy, annotations": ("train.json", rows(spacy_pair, "annotations")),
}
"""by name: what its file is called, and what writes it"""
