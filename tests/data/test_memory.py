"""Data in memory: every kind of table gives the rows that a file with the same content gives."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.examples import read_examples
from jaxft.data.memory import Table, as_table
from jaxft.errors import InputError

TEXTS, LABELS, SPLITS = ["fine", "dull", "good", "poor"], ["pos", "neg", "pos", "neg"], ["train"] * 3 + ["test"]
COLUMNS = {"text": TEXTS, "label": LABELS, "split": SPLITS}


class FakeDataset:
    """What `as_table` reads of a `datasets.Dataset`."""

    def __init__(self, columns, features=None):
        self._columns = columns
        self.column_names = list(columns)
        self.features = features or dict.fromkeys(columns)

    def __getitem__(self, name):
        return self._columns[name]


def pandas_frame():
    return pytest.importorskip("pandas").DataFrame(COLUMNS)


def polars_frame():
    return pytest.importorskip("polars").DataFrame(COLUMNS)


def lazy_frame():
    return pytest.importorskip("polars").LazyFrame(COLUMNS)


def arrow_table():
    return pytest.importorskip("pyarrow").table(COLUMNS)


def dataset_dict():
    names = SimpleNamespace(names=["neg", "pos"])
    return {
        split: FakeDataset(
            {
                "text": [text for text, own in zip(TEXTS, SPLITS, strict=True) if own == split],
                "label": [int(label == "pos") for label, own in zip(LABELS, SPLITS, strict=True) if own == split],
            },
            {"text": None, "label": names},
        )
        for split in ("train", "test")
    }


def real_dataset():
    return pytest.importorskip("datasets").Dataset.from_dict(COLUMNS)


def real_dataset_dict():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    splits = {split: fake._columns for split, fake in dataset_dict().items()}
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(columns, features) for split, columns in splits.items()}
    )


KINDS = [
    lambda: COLUMNS,
    pandas_frame,
    polars_frame,
    lazy_frame,
    arrow_table,
    dataset_dict,
    real_dataset,
    real_dataset_dict,
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("make", KINDS)
def test_every_table_gives_the_same_documents_and_examples(make):
    table = as_table(make())
    documents = [(d.text, d.label, d.split) for d in open_corpus(table).documents()]
    assert documents == list(zip(TEXTS, LABELS, SPLITS, strict=True))
    examples = read_examples(table, "classification")
    assert [text for (text,) in examples.texts] == TEXTS
    assert [examples.classes[i] for i in examples.targets] == LABELS
    assert examples.name == "data"


def test_texts_and_labels_are_a_table():
    assert as_table(np.array(TEXTS), tuple(LABELS)) == Table({"text": TEXTS, "label": LABELS})
    pairs = as_table([("a", "b"), ("c", "d")], [0, 1], pairs=True)
    assert isinstance(pairs, Table)
    assert pairs.columns == {"text": ["a", "c"], "pair": ["b", "d"], "label": [0, 1]}
    assert as_table("reviews.csv") == "reviews.csv"


def test_missing_labels_and_numbers_of_classes_are_read_as_in_a_file(tmp_path):
    labels = [1.0, 0.0, float("nan"), None, np.int64(1), 0]
    table = as_table([f"text {i}" for i in range(6)], labels)
    documents = list(open_corpus(table).documents())
    assert [d.label for d in documents] == ["1", "0", None, None, "1", "0"]
    path = tmp_path / "rows.jsonl"
    values = [None if label is None or np.isnan(label) else float(label) for label in labels]
    lines = [{"text": f"text {i}", "label": value} for i, value in enumerate(values)]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [d.label for d in open_corpus(str(path)).documents()] == [d.label for d in documents]


def test_missing_values_of_pandas_are_missing():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": TEXTS, "label": pandas.array(["pos", None, "neg", pandas.NA], dtype="string")})
    table = as_table(frame)
    assert isinstance(table, Table)
    assert [fields["label"] for _, fields in table.rows()] == ["pos", None, "neg", None]


def test_the_unlabelled_split_of_the_hub_has_no_labels():
    names = SimpleNamespace(names=["neg", "pos"])
    parts = {"train": ([0, 1], ["a", "b"]), "unsupervised": ([-1, -1], ["c", "d"])}
    data = {
        split: FakeDataset({"text": texts, "label": labels}, {"text": None, "label": names})
        for split, (labels, texts) in parts.items()
    }
    documents = list(open_corpus(as_table(data)).documents())
    assert [(d.label, d.split) for d in documents[2:]] == [(None, "unlabelled")] * 2


def test_a_dataset_of_tagged_sentences_is_read_with_its_splits_and_the_names_of_its_tags():
    from jaxft.data.tagged_table import read_tagged_table

    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features(
        {"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": datasets.Sequence(names)}
    )
    rows = {"train": ([["Ada", "left"], ["he"]], [[1, 0], [0]]), "validation": ([["Ada", "Byron"]], [[1, 2]])}
    data = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict({"tokens": tokens, "ner_tags": tags}, features)
            for split, (tokens, tags) in rows.items()
        }
    )
    table = as_table(data)
    assert isinstance(table, Table)
    parts, _ = read_tagged_table(table)
    assert {split: [(s.tokens, s.tags) for s in sentences] for split, sentences in parts.items()} == {
        "train": [(("Ada", "left"), ("B-PER", "O")), (("he",), ("O",))],
        "dev": [(("Ada", "Byron"), ("B-PER", "I-PER"))],
    }


def test_fastai_s_column_is_valid_marks_dev_rows():
    table = Table({"text": TEXTS, "label": LABELS, "is_valid": [False, False, True, True]})
    assert [d.split for d in open_corpus(table).documents()] == ["train", "train", "dev", "dev"]
    with pytest.raises(InputError, match=r"data\[0\] has the unknown split 3 in 'is_valid': use True or False"):
        open_corpus(Table({**table.columns, "is_valid": [3, 0, 0, 0]}))


def test_other_data_have_another_fingerprint():
    first, again, other = Table(COLUMNS), Table(dict(COLUMNS)), Table({**COLUMNS, "label": LABELS[::-1]})
    assert first.fingerprint("") == again.fingerprint("") != other.fingerprint("")
    assert first.fingerprint("") != first.fingerprint("other columns")


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (TEXTS, LABELS[:2], r"the columns differ in length \(text 4, label 2\)"),
        (COLUMNS, LABELS, "labels are given beside a table: leave them out"),
        ("reviews.csv", LABELS, "labels are given beside a path"),
        (3, None, "the data are of the type int: give a path, texts with labels, or a table"),
        ([("a", "b"), "c"], [0, 1], "some data are pairs of texts and some are not"),
        (TEXTS, 3, "labels is 3: give a list with a value for each text"),
        (TEXTS, "abcd", "labels is 'abcd': give a list"),
        ({"text": "abc"}, None, "text is 'abc': give a list"),
        (b"abc", None, "the data are of the type bytes"),
    ],
)
def test_data_that_are_no_table_are_refused(data, labels, message):
    with pytest.raises(InputError, match=message):
        as_table(data, labels, pairs=True)


def test_odd_tables_of_pandas_are_read_or_refused():
    pandas = pytest.importorskip("pandas")
    numbered = as_table(pandas.DataFrame([["fine", "pos"], ["dull", "neg"]]))
    assert numbered == Table({"0": ["fine", "dull"], "1": ["pos", "neg"]})
    with pytest.raises(InputError, match="two columns of the same name"):
        as_table(pandas.DataFrame([["fine", "pos"]], columns=["text", "text"]))
    empty = as_table({"train": pandas.DataFrame(COLUMNS), "test": pandas.DataFrame()})
    assert isinstance(empty, Table)
    assert len(empty.columns["text"]) == 4
    kinds = pandas.DataFrame({"text": TEXTS, "label": pandas.Categorical(LABELS)})
    assert [d.label for d in open_corpus(as_table(kinds)).documents()] == LABELS


def test_a_split_that_hides_its_labels_is_unlabelled():
    data = {"train": {"text": TEXTS, "label": LABELS}, "test": {"text": ["odd"], "label": [None]}}
    table = as_table(data)
    assert isinstance(table, Table)
    assert table.columns["split"] == ["train"] * 4 + ["unlabelled"]


def test_texts_of_held_out_splits_are_not_learnt_from():
    from jaxft.data.plain import table_corpus
    from jaxft.data.tagged_table import read_tagged_table

    table = as_table({"train": {"text": ["a", ""]}, "validation": {"text": ["b"]}, "test": {"text": ["c"]}})
    assert isinstance(table, Table)
    splits = [(d.text, d.split) for d in table_corpus(table).documents()]
    assert splits == [("a", "unlabelled"), ("b", "dev"), ("c", "test")]
    tagged = Table({"tokens": [["a"], ["b"]], "tags": [["O"], ["O"]], "is_valid": [0.0, 1.0]})
    assert {split: len(rows) for split, rows in read_tagged_table(tagged)[0].items()} == {"train": 1, "dev": 1}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([("a", "b"), {"b"}, ["a"], "a|b"], [["a", "b"], ["b"], ["a"], ["a", "b"]]),
        ([[1, 2.0], [2], [1.0, None], "1|2"], [["1", "2"], ["2"], ["1"], ["1", "2"]]),
    ],
)
def test_sets_of_labels_are_read_whatever_holds_them(labels, names):
    examples = read_examples(as_table(TEXTS, labels), "multilabel")
    found = [[examples.classes[i] for i in np.flatnonzero(row)] for row in examples.targets]
    assert found == names


def test_parts_of_a_mapping_keep_their_splits_whatever_their_column_of_that_name_says():
    parts = {name: {"text": TEXTS, "label": LABELS, "split": ["left"] * len(TEXTS)} for name in ("train", "test")}
    examples = read_examples(as_table(parts), "classification", Columns(split=None))
    assert np.bincount(examples.splits).tolist() == [len(TEXTS), len(TEXTS)]


def test_rows_of_0_and_1_are_no_names_of_labels():
    with pytest.raises(InputError, match=r"data\[0\] has \[1, 0, 1\] in 'label', a row of 0 and 1: give labels"):
        read_examples(as_table(TEXTS, np.array([[1, 0, 1]] * 4)), "multilabel")
