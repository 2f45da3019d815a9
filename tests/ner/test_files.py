"""The files of a tagging job: which are found in a folder, by the start of names and beside a training file."""

import gzip
from pathlib import Path

import pytest

from jaxft.errors import InputError
from jaxft.ner.files import choose_files
from jaxft.ner.inputs import read_inputs
from jaxft.ner.settings import Settings
from tests.ner.toy import settings, write

BESIDE = [
    ("train.txt", "valid.txt", "test.txt"),
    ("train.txt", "valid.tsv", "test.conll"),
    ("train.txt", "dev", "test.bio"),
    ("train", "validation", "test"),
    ("train.tsv", "val.tsv", "test.tsv.gz"),
    ("eng.train", "eng.testa", "eng.testb"),
    ("x.train", "x.dev", "x.test"),
    ("x.train", "x.valid", "x.testing"),
    ("x.train.txt", "x.val.txt", "x.test.txt"),
    ("ner_train.jsonl", "ner_dev.jsonl", "ner_test.jsonl"),
    ("train-ner.iob2", "devel-ner.iob2", "test-ner.iob2"),
    ("Train.txt", "Dev.txt", "Test.txt"),
    ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
]
"""names of the files of train, dev and test that belong together"""


def names(files):
    return tuple(files.parts[part].name for part in ("train", "dev", "test") if part in files.parts)


@pytest.mark.parametrize("files", BESIDE)
@pytest.mark.parametrize("named", ["file", "folder"])
def test_files_of_one_name_are_found_together(tmp_path, files, named):
    for name in (*files, "README.md", "train.py", "test.py", "dev.log", ".valid.txt"):
        (tmp_path / name).write_text("a O\n")
    found = choose_files(Settings(data=str(tmp_path / files[0] if named == "file" else tmp_path)))
    assert names(found) == files
    assert found.beside == (("dev", "test") if named == "file" else ())
    assert ("(found beside the training file)" in found.lines()[0]) is (named == "file")
    ignored = [path.name for path in found.ignored]
    assert ignored == ([] if named == "file" else ["README.md", "dev.log", "test.py", "train.py"])


@pytest.mark.parametrize("start", ["eng", "e"])
@pytest.mark.parametrize("mark", [".", "_", "-"])
def test_the_start_of_names_takes_the_files_that_go_on_with_a_mark(tmp_path, start, mark):
    for name in (f"{start}{mark}train", f"{start}{mark}testa", f"{start}{mark}testb", "english.dev", "train"):
        (tmp_path / name).write_text("a O\n")
    found = choose_files(Settings(data=str(tmp_path / start)))
    assert names(found) == (f"{start}{mark}train", f"{start}{mark}testa", f"{start}{mark}testb")


def test_a_named_dev_file_ends_the_search_and_a_named_test_file_does_not(tmp_path):
    for name in ("train.txt", "valid.txt", "test.txt", "other.txt"):
        (tmp_path / name).write_text("a O\n")
    data, other = str(tmp_path / "train.txt"), tmp_path / "other.txt"
    assert names(choose_files(Settings(data=data, dev=other))) == ("train.txt", "other.txt")
    assert names(choose_files(Settings(data=data, test=other))) == ("train.txt", "valid.txt", "other.txt")
    found = choose_files(Settings(data=data, dev=other))
    assert found.lines()[1] == "files that are not read: test.txt, valid.txt"


def test_files_of_another_name_are_not_used_beside_a_training_file(tmp_path):
    for name in ("eng.train", "deu.testa", "valid.txt", "eng.testa.bak"):
        (tmp_path / name).write_text("a O\n")
    found = choose_files(Settings(data=str(tmp_path / "eng.train")))
    assert names(found) == ("eng.train",)
    assert found.lines()[1:] == ["files that are not read: deu.testa, eng.testa.bak, valid.txt"]
    (tmp_path / "all.conll").write_text("a O\n")
    assert names(choose_files(Settings(data=str(tmp_path / "all.conll")))) == ("all.conll",)


def test_a_folder_with_the_files_of_two_languages_is_refused(tmp_path):
    for name in ("eng.train", "deu.train", "eng.testa"):
        (tmp_path / name).write_text("a O\n")
    with pytest.raises(InputError, match=r"has several training files, such as deu\.train and eng\.train: name one"):
        choose_files(Settings(data=str(tmp_path)))


def test_a_folder_without_a_training_file_is_refused(tmp_path):
    (tmp_path / "valid.txt").write_text("a O\n")
    with pytest.raises(InputError, match=r"is not a file, and neither .*/train nor .*/train\.txt or another"):
        choose_files(Settings(data=str(tmp_path)))


def test_many_files_that_are_not_read_are_counted(tmp_path):
    for name in ("train.txt", *(f"{letter}.txt" for letter in "abcdefg")):
        (tmp_path / name).write_text("a O\n")
    line = choose_files(Settings(data=str(tmp_path))).lines()[1]
    assert line == "files that are not read: a.txt, b.txt, c.txt, d.txt, e.txt and 2 more"


@pytest.mark.parametrize("dev", ["valid.txt", "valid.tsv", "dev.txt.gz"])
def test_a_run_reads_the_dev_file_beside_its_training_file(tmp_path, dev):
    write(tmp_path / "train.txt", 20, 0)
    write(tmp_path / "other", 7, 1, "\t")
    content = (tmp_path / "other").read_bytes()
    (tmp_path / dev).write_bytes(gzip.compress(content) if dev.endswith(".gz") else content)
    inputs = read_inputs(settings(str(tmp_path / "train.txt"), tmp_path / "run"))
    assert [len(inputs.sentences[part]) for part in ("train", "dev", "test")] == [20, 7, 0]
    assert inputs.lines[-1].endswith(f"dev {tmp_path / dev} (found beside the training file)")


def test_a_training_file_with_rows_of_every_split_is_read_alone(tmp_path):
    row = '{{"tokens": ["Ada"], "tags": ["B-PER"], "split": "{}"}}\n'
    (tmp_path / "train.jsonl").write_text(row.format("train") * 3 + row.format("dev"))
    (tmp_path / "dev.jsonl").write_text(row.format("dev") * 9)
    inputs = read_inputs(settings(str(tmp_path / "train.jsonl"), tmp_path / "run"))
    assert [len(inputs.sentences[part]) for part in ("train", "dev", "test")] == [3, 1, 0]
    assert inputs.lines[-1] == "files that are not read: dev.jsonl"


def test_equal_sentences_stay_on_one_side_of_the_split(tmp_path):
    lines = [f"{word} O\nada B-PER\n\n" * count for word, count in zip("abcdefghij", range(1, 11), strict=True)]
    (tmp_path / "all.conll").write_text("".join(lines))
    for seed in range(5):
        inputs = read_inputs(
            settings(str(tmp_path / "all.conll"), tmp_path / "run", "--seed", str(seed), "--dev-fraction", "0.3")
        )
        train, dev = ({sentence.tokens for sentence in inputs.sentences[part]} for part in ("train", "dev"))
        assert not train & dev
        assert 1 <= len(inputs.sentences["dev"]) <= round(0.3 * 55)


def test_of_equal_sentences_alone_some_are_held_out(tmp_path):
    (tmp_path / "all.conll").write_text("ada B-PER\n\n" * 10)
    inputs = read_inputs(settings(str(tmp_path / "all.conll"), tmp_path / "run"))
    assert [len(inputs.sentences[part]) for part in ("train", "dev")] == [9, 1]


def test_conll_2003_has_its_parts_in_testa_and_testb(cases):
    found = choose_files(Settings(data=str(cases / "tagging/conll2003")))
    assert names(found) == ("train.txt", "valid.txt", "test.txt")
    found = choose_files(Settings(data=str(cases / "tagging/conll2003/train.txt")))
    assert names(found) == ("train.txt", "valid.txt", "test.txt")
    assert names(choose_files(Settings(data=str(cases / "tagging/tiny")))) == ("tiny.train", "tiny.dev", "tiny.test")
    assert names(choose_files(Settings(data=str(Path(cases) / "tagging/tiny.train"))))[1:] == ("tiny.dev", "tiny.test")
