"""Tables as documents: formats, columns, splits, and what is refused in one sentence."""

import csv
import gzip
import io
import json
import lzma
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.columns import Columns
from jaxft.data.document import Document, Split
from jaxft.data.table import read_table, rows
from jaxft.errors import InputError
from tests.data.corpus_files import COMPRESS, documents, refusal, write

TABLE = "text,label,split\nA joy.,pos,train\nA bore.,neg,train\nLong.,,unlabelled\nFine.,pos,test\n"


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_every_table_format_yields_the_same_documents(tmp_path, suffix, compression):
    wanted = [
        Document('Says "hm, no",\nthen\tleaves.', "3", "train"),
        Document("Çok güzel <br /> 🎬", "0", "test"),
        Document("No label.", None, "unlabelled"),
    ]
    buffer = io.StringIO(newline="")
    if suffix.startswith(".json"):
        labels = [None if document.label is None else int(document.label) for document in wanted]
        objects = [{"text": d.text, "label": label, "split": d.split} for d, label in zip(wanted, labels, strict=True)]
        lines = map(json.dumps, objects) if suffix == ".jsonl" else [json.dumps(objects, indent=2)]
        buffer.writelines(f"{line}\n" for line in lines)
    else:
        writer = csv.writer(buffer, delimiter="," if suffix == ".csv" else "\t")
        writer.writerow(["text", "label", "split"])
        writer.writerows((document.text, document.label, document.split) for document in wanted)
    path = write(tmp_path / f"reviews{suffix}{compression}", COMPRESS[compression](buffer.getvalue().encode()))
    assert documents(path) == wanted


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(TEXTS, min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_text_survives_both_formats(texts):
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/a.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "split"])
            writer.writerows([text, "a", "train"] for text in texts)
        lines = "".join(json.dumps({"text": text, "label": "a", "split": "train"}) + "\n" for text in texts)
        write(Path(folder) / "a.jsonl", lines)
        for name in ("a.csv", "a.jsonl"):
            assert [document.text for document in documents(Path(folder) / name)] == texts


def test_byte_order_mark_blank_lines_and_spaced_cells_are_accepted(tmp_path):
    path = write(tmp_path / "excel.csv", "\ufefftext , label,split\r\n\r\nFine., pos ,Train\r\nHm.,,Unlabeled\r\n\r\n")
    assert documents(path) == [Document("Fine.", "pos", "train"), Document("Hm.", None, "unlabelled")]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("above", ["\n", "  \n\n", "\nsep=;\n"])
def test_blank_lines_above_the_header_are_left_out(tmp_path, suffix, above):
    mark = ";" if "sep" in above else {"csv": ",", "tsv": "\t"}[suffix]
    rows = "text,label,split\nFine.,pos,train\nHm.,neg,train\n".replace(",", mark)
    got = documents(write(tmp_path / f"a.{suffix}", above + rows))
    assert got == [Document("Fine.", "pos", "train"), Document("Hm.", "neg", "train")]


def test_fields_longer_than_csv_allows_by_default(tmp_path):
    path = write(tmp_path / "long.csv", f"text,label,split\n{'word ' * 200_000},pos,train\n")
    assert len(documents(path)[0].text) == 1_000_000


def test_other_column_names_and_labels_of_unlabelled_rows(tmp_path):
    path = write(tmp_path / "own.csv", "id,review,stars,part\n1,Fine.,five,train\n2,Hm.,one,unlabelled\n")
    got = documents(path, text_column="review", label_column="stars", split_column="part")
    assert got == [Document("Fine.", "five", "train"), Document("Hm.", None, "unlabelled")]


def test_unlabelled_json_lines_may_leave_the_label_out(tmp_path):
    path = write(
        tmp_path / "a.jsonl", '{"text": "Hm.", "split": "unlabelled"}\n{"text": "A", "label": true, "split": "test"}'
    )
    assert documents(path) == [Document("Hm.", None, "unlabelled"), Document("A", "True", "test")]


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=60), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_without_a_split_column_a_fifth_of_each_class_is_test(labels, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.csv"
        write(path, "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels)))
        got = list(read_table(path, Columns(), seed))
        assert got == list(read_table(path, Columns(), seed))
    assert [document.label or "" for document in got] == labels
    for label in set(labels):
        splits: list[Split] = [document.split for document in got if (document.label or "") == label]
        if not label:
            assert set(splits) == {"unlabelled"}
            continue
        assert splits[0] == "train"
        assert all(splits[at : at + 5].count("test") == 1 for at in range(0, len(splits) - 4, 5))
        assert splits.count("test") <= -(-len(splits) // 5)


def test_the_carved_test_rows_depend_on_the_seed(tmp_path):
    path = write(tmp_path / "plain.csv", "text,label\n" + "".join(f"x {i},a\n" for i in range(100)))
    splits = [tuple(document.split for document in read_table(path, Columns(), seed)) for seed in range(3)]
    assert len(set(splits)) == 3
    assert Counter(splits[0]) == {"train": 80, "test": 20}


def test_rows_serve_a_file_of_texts_alone(tmp_path):
    path = write(tmp_path / "new.csv", "id,text\n7,Fine.\n")
    assert list(rows(path)) == [(f"{path}, row 2", {"id": "7", "text": "Fine."})]
    with pytest.raises(InputError, match=r"new.txt has an unknown suffix: give a .csv"):
        list(rows(path.rename(tmp_path / "new.txt")))


BAD_TABLES = {
    "empty.csv": ("", "is empty"),
    "header.csv": ("text,label\n", "has no rows"),
    "blank.jsonl": ("\n\n", "has no rows"),
    "names.csv": ("review,sentiment\nFine.,pos\n", "no column 'text' .* 'review', 'sentiment': .* --text-column"),
    "nolabel.csv": ("text,stars\nFine.,5\n", "no column 'label' .* only 'text', 'stars': .* --label-column"),
    "names.jsonl": ('{"review": "Fine."}\n', "line 1 has no column 'text', only 'review'"),
    "later.jsonl": ('{"text": "Fine.", "label": 1}\n{"text": "Hm."}\n', "line 2 has no column 'label'"),
    "twice.csv": ("text,text,label\na,b,c\n", "row 1 repeats a column name"),
    "split.csv": (TABLE + "Odd.,pos,odd\n", "row 6 has the unknown split 'odd' in 'split': use train, dev, test or"),
    "unlabelled.csv": (TABLE + "Odd.,,train\n", "row 6 is a train row without a label"),
    "unlabelled_test.csv": (TABLE + "Odd., ,test\n", "row 6 is a test row without a label"),
    "hollow.csv": (TABLE + " ,pos,train\n", "row 6 has an empty text"),
    "multiline.csv": ('text,label\n"one\ntwo",a\n"",a\n', "row 3 has an empty text"),
    "hollow.jsonl": ('{"text": "", "label": 1}\n', "line 1 has an empty text"),
    "ragged.csv": (TABLE + "Well, no.,neg,train\n", "row 6 has 4 fields and the header has 3"),
    "short.csv": (TABLE + "Well\n", "row 6 has 1 field and the header has 3: fill in the rest"),
    "open_quote.csv": ('text,label\n"Fine.,pos\nBad.,neg\n', "row 2 has a quotation mark in the wrong place: enclose"),
    "stray_quote.csv": ('text,label\n"Fine" he said,pos\n', "row 2 has a quotation mark in the wrong place: enclose"),
    "binary.csv": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1 has the byte 0x89, which is not UTF-8"),
    "zero.csv": (b"text,label\na\0b,pos\n", "line 2 has a zero byte"),
    "utf16.csv": ("text,label\na,b\n".encode("utf-16"), "line 1 has zero bytes, as in a binary or UTF-16 file"),
    "latin.csv": (
        TABLE.encode() + "Très,pos,train\n".encode("latin-1"),
        "line 6 has the byte 0xe8, which is not UTF-8",
    ),
    "bad.jsonl": (
        '{"text": "a", "label": 1}\n{"text": "b", "label": }\n',
        "line 2 is not valid JSON from character 24 on",
    ),
    "deep.jsonl": ("[" * 100_000, "line 1 is not valid JSON"),
    "list.jsonl": ('["a", "pos"]\n', "item 1 is not a JSON object"),
    "cut.json": ('[{"text": "a", "label": 1},', "line 1 is not valid JSON from character 28 on: write one object"),
    "text.jsonl": ('"a"\n', "line 1 is not a JSON object"),
    "number.jsonl": ('{"text": 5, "label": 1}\n', "line 1 has 5 in 'text', which needs a text"),
    "labels.jsonl": ('{"text": "a", "label": ["x", "y"]}\n', r"line 1 has \['x', 'y'\] in 'label': give one label"),
    "surrogate.jsonl": ('{"text": "a\\ud83d", "label": 1}\n', "line 1, column 'text' has half a surrogate pair"),
    "cut.csv.gz": (gzip.compress(TABLE.encode())[:-12], "truncated or corrupt"),
    "cut.csv.xz": (lzma.compress(TABLE.encode())[:-12], "truncated or corrupt"),
    "garbled.csv.gz": (b"\x1f\x8bnot gzip at all", "truncated or corrupt"),
    "new.csv.zst": (b"\x28\xb5\x2f\xfd....", "truncated or corrupt"),
    "notes.txt": ("text,label\n", "unknown suffix: give a .csv"),
    "reviews.zip": (b"PK\3\4", "unknown suffix"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused_in_one_sentence(tmp_path, name):
    content, pattern = BAD_TABLES[name]
    message = refusal(write(tmp_path / name, content))
    with pytest.raises(InputError, match=pattern):
        raise InputError(message)


def test_a_split_column_that_was_asked_for_must_be_there(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nFine.,pos\n")
    assert "no column 'part', only 'text', 'label': name the right one with --split-column" in refusal(
        path, split_column="part"
    )


def test_a_missing_path_names_what_data_takes(tmp_path):
    assert "give imdb, demo, or the path" in refusal(tmp_path / "nothing.csv")


def test_copies_of_a_text_are_in_its_split(tmp_path):
    lines = [f"text {i % 40},{'ab'[i % 40 % 2]}" for i in range(120)]
    path = write(tmp_path / "copies.csv", "text,label\n" + "\n".join([*lines, "  text  0 ,a", "text 1,c"]) + "\n")
    for seed in range(3):
        documents = list(read_table(path, Columns(), seed))
        test, train = ({d.text.strip() for d in documents[:120] if d.split == split} for split in ("test", "train"))
        assert not test & train
        assert len(test) == 8
        assert documents[120].split == documents[0].split
        assert documents[121].split == "train"  # the first of its class


def test_rows_with_splits_of_their_own_and_unlabelled_rows_are_not_moved(tmp_path):
    path = write(tmp_path / "own.csv", "text,label,split\nx,a,train\nx,a,test\n")
    assert [document.split for document in read_table(path, Columns())] == ["train", "test"]
    path = write(tmp_path / "some.csv", "text,label\nx,a\nx,\n")
    assert [document.split for document in read_table(path, Columns())] == ["train", "unlabelled"]
