"""Files on which readers have failed, each read right or refused with the sentence that fits."""

from collections import defaultdict

import numpy as np
import pytest

from jaxft.data.columns import Columns, TableSettings
from jaxft.data.corpus import open_corpus
from jaxft.data.examples import read_examples
from jaxft.errors import InputError
from tests.data.corpus_files import documents

READ = {
    "quotation marks after a backslash": (
        "text/backslash_quotes.tsv",
        {"text_column": "review", "label_column": "sentiment"},
        [('A "fine" film', "1"), ("Dull", "0")],
    ),
    "a line with the separator": ("text/excel_sep.csv", {}, [("good film", "pos")]),
    "semicolons": ("text/semicolon.csv", {}, [("good film", "pos"), ("bad film", "neg")]),
    "names of splits as on the hub": ("text/hf_splits.csv", {}, [("fine", "1"), ("dull", "0"), ("ok", "1")]),
    "columns without a name": (
        "text/spam_header.csv",
        {"text_column": "v2", "label_column": "v1"},
        [("see you later", "ham"), ("win a prize now", "spam")],
    ),
    "no header": (
        "text/no_header.csv",
        {"columns": "label,title,text", "text_column": "title,text"},
        [("xxfld 1 Title one xxfld 2 First story", "1"), ("xxfld 1 Title two xxfld 2 Second story", "2")],
    ),
    "quotation marks that do not quote": (
        "encoders/tiny_quotes2.tsv",
        {},
        [
            ('"Never again, she wrote', "bad"),
            ("A fine chair", "good"),
            ("A fine table", "good"),
            ('so he called it a waste"', "bad"),
            ("Lovely", "good"),
            ("Dull", "bad"),
        ],
    ),
}
REFUSED = {
    "no header": ("text/no_header.csv", "looks like no header: name all columns with --columns"),
    "no header and long texts": ("text/headerless_long.csv", "looks like no header: name all columns with --columns"),
    "carriage returns alone": ("text/cr_only.csv", "ends its lines with carriage returns alone"),
    "one zero byte": ("text/one_nul.csv", "line 3 has a zero byte: remove it"),
    "another name for the texts": ("text/spam_header.csv", "only 'v1', 'v2': name the right one with --text-column"),
    "a row of 0 and 1 for each text": ("encoders/multihot.jsonl", r"line 1 has \[0.0, 1.0, 1.0\] in 'label'"),
}


@pytest.mark.realdata
@pytest.mark.parametrize("kind", READ)
def test_a_file_is_read_as_it_is_meant(cases, kind):
    name, settings, rows = READ[kind]
    assert [(document.text, document.label) for document in documents(cases / name, **settings)] == rows


@pytest.mark.realdata
@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_is_refused_with_its_remedy(cases, kind):
    name, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as error:
        documents(cases / name)
    assert len(str(error.value)) < 500


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["text/dup_leak.csv", "encoders/dups.csv"])
def test_equal_texts_are_in_one_split(cases, name):
    splits = defaultdict(set)
    for document in open_corpus(str(cases / name)).documents():
        splits[document.text].add(document.split)
    assert {len(of_text) for of_text in splits.values()} == {1}
    assert {split for of_text in splits.values() for split in of_text} == {"train", "test"}


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("text/chinese.csv", 300, ("neg", "pos")),
        ("text/imbalanced.csv", 400, None),
        ("encoders/label_mixed.jsonl", 60, ("0", "1")),
    ],
)
def test_a_file_has_its_rows_and_classes(cases, name, count, classes):
    examples = read_examples(str(cases / name), "classification")
    assert len(examples.texts) == count
    assert classes in (None, examples.classes)


@pytest.mark.realdata
def test_columns_of_0_and_1_are_sets_of_labels(cases):
    settings = TableSettings(text_column="comment_text", label_columns="toxic,insult,threat")
    examples = read_examples(str(cases / "encoders/onehot_cols.csv"), "multilabel", Columns.of(settings))
    assert examples.classes == ("insult", "threat", "toxic")
    assert np.array_equal(examples.targets[:3], [[1, 1, 0], [0, 0, 1], [0, 0, 0]])


@pytest.mark.realdata
def test_a_text_of_13_200_emoji_is_whole(cases):
    assert [len(document.text) for document in documents(cases / "text/emoji_13200.csv")] == [13_200, 8]
