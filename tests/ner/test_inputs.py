"""The files of a tagging job: where they are, what is held out, and what is refused by file and line."""

import json
from pathlib import Path

import pytest

from jaxft.data.tagged import Sentence
from jaxft.errors import InputError
from jaxft.ner.inputs import find_files, read_inputs
from jaxft.ner.job import prepare, train
from jaxft.ner.settings import Settings
from tests.ner.toy import settings, write, write_parts


def test_without_a_dev_file_some_of_train_is_held_out(tmp_path):
    data = write_parts(tmp_path)
    Path(f"{data}.dev").unlink()
    inputs = read_inputs(settings(data, tmp_path / "run", "--dev-fraction", "0.25"))
    assert [len(inputs.sentences[part]) for part in ("train", "dev", "test")] == [60, 20, 24]
    assert not {s.tokens for s in inputs.sentences["train"]} & {s.tokens for s in inputs.sentences["dev"]}
    same = read_inputs(settings(data, tmp_path / "run", "--dev-fraction", "0.25"))
    assert same.sentences == inputs.sentences


def test_equal_sentences_are_counted_over_the_files(tmp_path):
    for part, sentences in {
        "train": ("Ada B-PER\nran O\n\n" * 2 + "so O\n"),
        "dev": "so O\n",
        "test": "no O\n",
    }.items():
        (tmp_path / f"own.{part}").write_text(sentences)
    prepared = prepare(settings(str(tmp_path / "own"), tmp_path / "run"))
    assert prepared.data["duplicates"] == {"repeated": 2, "dev_in_train": 1, "test_in_train": 0}
    assert "2 sentences occur more than once; also in train: 1 of 1 dev, 0 of 1 test sentences" in prepared.lines


@pytest.mark.parametrize("form", ["parquet", "arrow", "jsonl", "one parquet"])
def test_tables_of_sentences_are_read_as_columns_are(data, tmp_path, form):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    expected = read_inputs(settings(data, tmp_path / "run")).sentences
    parts = {
        part: {"tokens": [list(s.tokens) for s in sentences], "tags": [list(s.tags) for s in sentences]}
        for part, sentences in expected.items()
    }
    (tmp_path / "table").mkdir()
    source = tmp_path / "table"
    for part, columns in parts.items():
        file = source / f"{part}.{form}"
        if form == "parquet":
            parquet.write_table(pyarrow.table(columns), file)
        elif form == "arrow":
            feather.write_feather(pyarrow.table(columns), file)
        elif form == "jsonl":
            rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if form == "one parquet":
        source = source / "all.parquet"
        tables = [pyarrow.table({**columns, "split": [part] * len(columns["tags"])}) for part, columns in parts.items()]
        parquet.write_table(pyarrow.concat_tables(tables), source)
    assert read_inputs(settings(str(source), tmp_path / "run")).sentences == expected


def test_a_bad_row_of_a_table_is_refused_by_its_number(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"tokens": ["Ada"], "tags": ["B-PER"]}\n{"tokens": ["a"], "tags": [3]}\n')
    with pytest.raises(InputError, match=r"train.jsonl, line 2 has numbers for its tags: give their names"):
        read_inputs(settings(str(tmp_path), tmp_path / "run"))


def test_a_file_beside_others_with_rows_of_another_split_is_refused(tmp_path):
    row = {"tokens": ["Ada"], "tags": ["B-PER"]}
    rows = {"train": [row, {**row, "split": "test"}], "dev": [{**row, "split": "dev"}]}
    for part, lines in rows.items():
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps({"split": part, **line}) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"train.jsonl is the file of train and has rows of the split test: remove"):
        read_inputs(settings(str(tmp_path), tmp_path / "run"))
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    sentences = read_inputs(settings(str(tmp_path), tmp_path / "run")).sentences
    assert {part: len(rows) for part, rows in sentences.items()} == {"train": 1, "dev": 1, "test": 0}


def test_files_by_prefix_by_folder_and_by_name(data, tmp_path):
    write(tmp_path / "train.txt", 5, 0, "\t")
    write(tmp_path / "test.conll", 5, 0)
    files = find_files(Settings(data=data))
    assert {part: file.name for part, file in files.items()} == {
        "train": "small.train",
        "dev": "small.dev",
        "test": "small.test",
    }
    files = find_files(Settings(data=str(tmp_path)))
    assert {part: file.name for part, file in files.items()} == {"train": "train.txt", "test": "test.conll"}
    files = find_files(Settings(data=f"{data}.train", dev=Path(f"{data}.dev")))
    assert {part: file.name for part, file in files.items()} == {"train": "small.train", "dev": "small.dev"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb B-PER\nc\n", r"line 3 has 1 columns and the line before has 2"),
        ("a O\nb Q-PER\n", r"line 2 has the tag 'Q-PER', which is neither O nor"),
        ("\n\n", r"has no sentences"),
        ("", r"is empty"),
        ("a O\n\nb O\n", r"marks no entity: name a file with tags"),
        ("a\n\nb\n", r"line 1 has no column -1 in 'a': name the column of the tags"),
        ("a O\n\tO\n", r"line 2 has a tag without a token"),
    ],
)
def test_bad_files_are_refused_and_nothing_is_left(tmp_path, content, message):
    (tmp_path / "bad.train").write_text(content)
    with pytest.raises(InputError, match=message):
        train(settings(str(tmp_path / "bad"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ('{"": {"ab": [[0, 1]]}}', "the tag 'B-'"),
        ('{"\\ud800": {"ab": [[0, 1]]}}', "half a surrogate pair"),
        ('{"X": {"ab": [[0, 1]]}, "Y": {"b": [[1, 1]]}}', "overlaps another entity"),
        ('{"X": {"ab": [[1, 2]]}}', "characters 1 to 2 are 'bc', not 'ab'"),
    ],
)
def test_bad_labels_in_json_are_refused_by_line(tmp_path, label, message):
    good = '{"text": "abc", "label": {"X": {"ab": [[0, 1]]}}}'
    (tmp_path / "bad.train.json").write_text(f'{good}\n{{"text": "abc", "label": {label}}}\n')
    with pytest.raises(InputError, match=rf"bad\.train\.json, line 2.*{message}"):
        read_inputs(settings(str(tmp_path / "bad"), tmp_path / "run"))
    (tmp_path / "bad.train.json").write_text(f'{good}\n{{"text": "abc"}}\n')
    with pytest.raises(InputError, match=r"line 2 is not an object with a text and its labels .there is no 'label'"):
        read_inputs(settings(str(tmp_path / "bad"), tmp_path / "run"))


def test_white_space_can_be_a_token(tmp_path):
    (tmp_path / "wide.train").write_text("\u3000 O\na B-X\n\nb\u00a0c O\na B-X\n")
    inputs = read_inputs(settings(str(tmp_path / "wide"), tmp_path / "run", "--dev-fraction", "0.5"))
    tokens = {sentence.tokens for part in inputs.sentences.values() for sentence in part}
    assert tokens == {("\u3000", "a"), ("b\u00a0c", "a")}


def test_white_space_in_json_is_no_token(tmp_path):
    line = '{"text": " Ada L", "label": {"X": {"Ada L": [[1, 5]]}}}\n'
    (tmp_path / "names.train.json").write_text(3 * line)
    inputs = read_inputs(settings(str(tmp_path / "names"), tmp_path / "run"))
    assert inputs.sentences["train"][0] == Sentence(tuple("AdaL"), ("B-X", "I-X", "I-X", "I-X"))


def test_a_token_of_white_space_is_an_unknown_piece_of_an_encoder(tmp_path, tiny_checkpoint):
    (tmp_path / "wide.train").write_text("one B-X\n  O\n\u3000 O\n\u200b O\ntwo B-X\n\n" * 2)
    flags = ["--dev-fraction", "0.5", "--encoder", str(tiny_checkpoint), "--max-length", "20"]
    inputs = read_inputs(settings(str(tmp_path / "wide"), tmp_path / "run", *flags))
    ids = inputs.pieces["train"].ids.tolist()
    assert inputs.sentences["train"][0].tokens == ("one", " ", "\u3000", "\u200b", "two")
    assert ids[2:5] == [inputs.tokenizer.unk_token_id] * 3
    assert any(line.endswith("60.0% of the tokens unknown") for line in inputs.lines)
