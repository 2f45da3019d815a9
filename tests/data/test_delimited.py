"""CSV and TSV files as people have them: delimiters, quotation marks and headers are read right, or named."""

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.columns import Columns, TableSettings
from jaxft.data.delimited import describe_layout
from jaxft.data.table import rows, table_notes
from jaxft.errors import InputError
from tests.data.corpus_files import documents, write

MERGING = """text\tlabel
"Never again, she wrote\tbad
A fine chair\tgood
so he called it a waste"\tbad
Lovely\tgood
"""
BACKSLASHED = 'id\ttext\tlabel\n"1"\t"A \\"fine\\" film"\tpos\n"2"\t"Dull"\tneg\n'


def texts(path: Path, **columns: str) -> list[str]:
    return [document.text for document in documents(path, **columns)]


def test_quotation_marks_that_merge_rows_of_a_tsv_are_characters(tmp_path):
    path = write(tmp_path / "a.tsv", MERGING)
    assert texts(path) == ['"Never again, she wrote', "A fine chair", 'so he called it a waste"', "Lovely"]
    assert "quotation marks are characters of the texts" in describe_layout(path, ".tsv", Columns())[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_quotation_marks_of_a_tsv_enclose_fields_where_all_of_them_do(tmp_path, compressed):
    content = 'text\tlabel\n"A ""fine"" film\non two lines"\tpos\n"one\ttab"\tneg\nplain\tneg\n'
    path = tmp_path / ("a.tsv.gz" if compressed else "a.tsv")
    path.write_bytes(gzip.compress(content.encode()) if compressed else content.encode())
    assert texts(path) == ['A "fine" film\non two lines', "one\ttab", "plain"]


def test_quotation_marks_after_a_backslash_are_those_of_the_text(tmp_path):
    path = write(tmp_path / "a.tsv", BACKSLASHED)
    assert texts(path) == ['A "fine" film', "Dull"]
    table = write(tmp_path / "a.csv", BACKSLASHED.replace("\t", ","))
    assert texts(table, quoting="backslash") == ['A "fine" film', "Dull"]
    with pytest.raises(InputError, match=r"a\.csv, row 2 has a quotation mark in the wrong place.*--quoting backslash"):
        documents(table)


@pytest.mark.parametrize("quoting", ["doubled", "none"])
def test_quoting_is_what_the_flag_says(tmp_path, quoting):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"whole"\tpos\nother\tneg\n')
    assert texts(path, quoting=quoting)[0] == {"doubled": "whole", "none": '"whole"'}[quoting]


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n\t\0", codec="utf-8"), min_size=1), min_size=1))
@settings(deadline=None, max_examples=50)
def test_a_tsv_without_line_ends_in_its_texts_has_a_row_for_every_line(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{value}\tx\n" for value in values), encoding="utf-8", newline="")
    assert len(list(rows(path))) == len(values)


@given(st.lists(st.tuples(*[st.text(st.characters(blacklist_characters="\r\0", codec="utf-8"), min_size=1)] * 2)))
@settings(deadline=None, max_examples=50)
def test_a_csv_of_the_csv_module_is_read_as_it_was_written(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("a", "b"), *values])
    assert [tuple(fields.values()) for _, fields in rows(path)] == values


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.csv", "text;label\ngood film;pos\n", "semicolons between the columns"),
        ("a.csv", "text\tlabel\ngood film\tpos\n", "tabs between the columns"),
        ("a.tsv", "text,label\ngood film,pos\n", "commas between the columns"),
        ("a.csv", "text|label\ngood film|pos\n", "vertical bars between the columns"),
        ("a.csv", "sep=;\ntext;label\ngood film;pos\n", "semicolons between the columns"),
        ("a.csv", "sep=,\r\ntext,label\r\ngood film,pos\r\n", None),
        ("a.csv", "\ufefftext,label\ngood film,pos\n", None),
    ],
)
def test_the_delimiter_is_that_of_the_first_line(tmp_path, name, content, note):
    path = write(tmp_path / name, content)
    assert texts(path) == ["good film"]
    assert table_notes(path, Columns()) == ([] if note is None else [f"{name}: {note}"])


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ","), ("a.csv", "|"), ("a.csv", ","), ("a.tsv", "\t")],
)
@pytest.mark.parametrize("header", [True, False])
def test_the_delimiter_is_the_one_that_all_rows_have_whatever_is_in_the_texts(tmp_path, name, delimiter, header):
    rows = [("1", "oh: the film"), ("0", "oh; dull"), ("1", "fine, really; it | was"), ("0", "so so")]
    lines = [delimiter.join(row if delimiter not in row[1] else (row[0], f'"{row[1]}"')) for row in rows]
    path = write(tmp_path / name, "\n".join([delimiter.join(("label", "text"))] * header + lines) + "\n")
    read = documents(path, **({} if header else {"columns": "label,text"}))
    assert [(document.label, document.text) for document in read] == rows


def test_names_for_a_file_that_has_a_header_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\ngood film,pos\n")
    with pytest.raises(InputError, match="row 1 holds the names that --columns gives: leave --columns out"):
        documents(path, columns="text,label")


def test_only_escaped_marks_lose_their_backslash(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"he said \\"no\\""\tp\nC:\\new\\file\tn\n"a \\t \\\\ b"\tn\n')
    assert texts(path) == ['he said "no"', "C:\\new\\file", "a \\t \\ b"]


def test_columns_without_a_name_are_left_out(tmp_path):
    path = write(tmp_path / "spam.csv", ",v1,v2,,\n0,ham,see you,,\n1,spam,win a prize,,\n2,ham,hello\n")
    assert texts(path, text_column="v2", label_column="v1") == ["see you", "win a prize", "hello"]


def test_a_file_without_a_header_gets_its_names_from_the_flag(tmp_path):
    path = write(tmp_path / "a.csv", '"3","A title","A story."\n"1","","Another."\n')
    flags = {"columns": "label,title,text"}
    assert [(d.text, d.label) for d in documents(path, **flags)] == [("A story.", "3"), ("Another.", "1")]
    assert texts(path, text_column="title,text", **flags)[0] == "xxfld 1 A title xxfld 2 A story."
    with pytest.raises(InputError, match="row 1 has 3 fields and --columns names 2: name every column"):
        documents(path, columns="label,text")


@pytest.mark.parametrize("first", ["1,Title one,First story", f"pos,{'word ' * 4000}"])
def test_a_first_row_of_texts_is_no_header(tmp_path, first):
    with pytest.raises(InputError, match="looks like no header: name all columns with --columns") as error:
        documents(write(tmp_path / "a.csv", f"{first}\n{first}\n"))
    assert len(str(error.value)) < 400


def test_a_column_that_is_missing_is_named_with_both_remedies(tmp_path):
    match = "no column 'text' in its first row, only 'good film', 'pos': name the right one with --text-column, or all"
    with pytest.raises(InputError, match=match):
        documents(write(tmp_path / "a.csv", "good film,pos\nbad film,neg\n"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"text,label\rgood film,pos\rbad film,neg\r", "ends its lines with carriage returns alone"),
        (b"bad\0 film,neg\n", "line 1 has a zero byte: remove it"),
        ("text,label\ngood film,pos\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive or an Excel workbook: unpack it"),
        (b"PAR1\x15\x04" + bytes(100), "is a Parquet file under another name: call it .parquet"),
        (b"\xd0\xcf\x11\xe0" + bytes(100), "is an old Excel or Word file: save it as CSV"),
        (b"version https://git-lfs.github.com/spec/v1\n", "fetch it with git lfs pull"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_another_file_under_the_name_of_a_table_gets_its_own_sentence(tmp_path, suffix, content, sentence):
    with pytest.raises(InputError, match=sentence):
        documents(write(tmp_path / f"a{suffix}", content))


def test_split_column_none_reads_a_column_of_that_name_as_any_other(tmp_path):
    path = write(tmp_path / "a.csv", "text,label,split\ngood film,pos,left\nbad film,neg,right\n")
    with pytest.raises(InputError, match="unknown split 'left'"):
        documents(path)
    assert [d.split for d in documents(path, split_column="none")] == ["train", "train"]


def test_settings_name_columns_once():
    with pytest.raises(InputError, match="--text-column 'a,a' names a column twice"):
        Columns.of(TableSettings(text_column="a,a"))
    with pytest.raises(InputError, match="--label-columns 'a,,b' has an empty name"):
        Columns.of(TableSettings(label_columns="a,,b"))
