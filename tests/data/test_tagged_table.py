"""Tagged sentences of tables: tokens with tags and texts with spans are the same sentences."""

import json

import pytest

from jaxft.data.memory import Table
from jaxft.data.tagged_table import is_tagged_table, read_tagged_table
from jaxft.errors import InputError

TOKENS = ["Ada", "Byron", "left", "Paris", "."]
TAGS = ["B-PER", "I-PER", "O", "B-LOC", "O"]
TEXT = "Ada Byron left Paris."
SPANS = [{"start": 0, "end": 9, "type": "PER"}, {"start": 15, "end": 20, "type": "LOC"}]


@pytest.mark.parametrize("tokens", ["tokens", "words", "text"])
@pytest.mark.parametrize("tags", ["tags", "ner_tags", "labels", "label"])
def test_tokens_and_tags_are_taken_as_they_are(tokens, tags):
    sentences, cut = read_tagged_table(Table({tokens: [TOKENS], tags: [TAGS]}))
    assert [(list(s.tokens), list(s.tags)) for s in sentences["train"]] == [(TOKENS, TAGS)]
    assert cut == 0


@pytest.mark.parametrize(
    "spans",
    [
        SPANS,
        SPANS[::-1],
        [(0, 9, "PER"), [15, 20, "LOC"]],
        [{**span, "label": span["type"]} for span in SPANS],
        [{"start": s["start"], "end": s["end"], "entity_group": s["type"]} for s in SPANS],
    ],
)
@pytest.mark.parametrize("column", ["spans", "entities", "label"])
def test_spans_of_characters_become_tags(spans, column):
    sentences, cut = read_tagged_table(Table({"text": [TEXT], column: [spans]}))
    assert (list(sentences["train"][0].tokens), list(sentences["train"][0].tags)) == (TOKENS, TAGS)
    assert cut == 0


def test_a_span_that_cuts_a_token_takes_all_of_it_and_is_counted():
    sentences, cut = read_tagged_table(Table({"text": [TEXT, TEXT], "spans": [[(0, 7, "PER")], [(1, 9, "PER")]]}))
    assert [list(s.tags)[:2] for s in sentences["train"]] == [["B-PER", "I-PER"]] * 2
    assert cut == 2


def test_scripts_without_spaces_are_read_by_characters():
    sentences, cut = read_tagged_table(Table({"text": ["我爱北京"], "spans": [[(2, 4, "LOC")]]}))
    assert (sentences["train"][0].tokens, sentences["train"][0].tags) == (
        tuple("我爱北京"),
        ("O", "O", "B-LOC", "I-LOC"),
    )
    assert cut == 0


def test_rows_name_their_splits():
    splits = ["train", "validation", "test", "unlabelled"]
    sentences, _ = read_tagged_table(Table({"tokens": [TOKENS] * 4, "tags": [TAGS] * 4, "split": splits}))
    assert {split: len(rows) for split, rows in sentences.items()} == {"train": 1, "dev": 1, "test": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tokens": [TOKENS], "tags": [TAGS[:3]]}, r"data\[0\] has 5 tokens and 3 tags: give one tag per token"),
        ({"tokens": [TOKENS], "tags": [["B_PER", *TAGS[1:]]]}, r"data\[0\] has the tag 'B_PER'"),
        ({"tokens": [[]], "tags": [[]]}, r"data\[0\] has \[\] for its tokens: give a list of words"),
        ({"tokens": [TOKENS], "tags": [None]}, r"data\[0\] has None for its tags: give a list"),
        ({"text": [TEXT], "spans": [[{"start": 0}]]}, r"data\[0\] has the span .*: give its start, end and type"),
        ({"text": [TEXT], "spans": [[(0, 90, "PER")]]}, r"data\[0\] has a span that does not fit its text"),
        ({"text": [TEXT], "spans": [[(0, 9, "A"), (4, 9, "B")]]}, "overlaps another entity"),
        ({"text": [" "], "spans": [[]]}, r"data\[0\] has an empty text"),
        ({"sentence": [TOKENS], "tags": [TAGS]}, r"data\[0\] has no column of tokens, only 'sentence', 'tags'"),
        ({"tokens": [TOKENS], "tags": [TAGS], "split": ["odd"]}, "unknown split 'odd'"),
        ({"tokens": [], "tags": []}, "data has no rows"),
    ],
)
def test_bad_rows_are_refused(columns, message):
    with pytest.raises(InputError, match=message):
        read_tagged_table(Table(columns))


def test_files_of_rows_are_told_from_the_other_forms(tmp_path):
    rows = [{"tokens": TOKENS, "ner_tags": TAGS}, {"text": TEXT, "spans": SPANS}]
    cluener = {"text": "Ada", "label": {"PER": {"Ada": [[0, 2]]}}}
    for name, row, expected in (("rows", rows[0], True), ("spans", rows[1], True), ("cluener", cluener, False)):
        (tmp_path / f"{name}.jsonl").write_text("\n" + json.dumps(row) + "\n")
        assert is_tagged_table(tmp_path / f"{name}.jsonl") is expected
    (tmp_path / "columns.txt").write_text("Ada B-PER\n")
    (tmp_path / "bad.jsonl").write_text("[" * 100_000)
    (tmp_path / "untagged.jsonl").write_text('{"id": 1, "text": "Ada"}\n')
    assert not is_tagged_table(tmp_path / "untagged.jsonl")
    assert not is_tagged_table(tmp_path / "columns.txt")
    assert not is_tagged_table(tmp_path / "bad.jsonl")
    sentences, _ = read_tagged_table(tmp_path / "rows.jsonl")
    assert [(list(s.tokens), list(s.tags)) for s in sentences["train"]] == [(TOKENS, TAGS)]
