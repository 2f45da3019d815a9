"""A model's folder: what is saved comes back, alone and elsewhere, and what is damaged is refused."""

import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from jaxft import load, predict
from jaxft.base.files import read_json, write_json
from jaxft.data.checksums import CHECKSUMS
from jaxft.data.pieces import load_tokenizer
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError, TextError
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.models.encoders import open_checkpoint
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT

WORDS = ["the", "film", "was", "fine", "dull"]


@pytest.fixture(scope="module")
def model():
    vocabulary = Vocabulary.build(dict.fromkeys(WORDS, 9))
    config = AWDLSTMConfig(len(vocabulary), 4, 6, 2)
    module = Classifier(config, 3, NO_DROPOUT, nnx.Rngs(0), head_hidden=5, max_length=12, bptt=4)
    params, statistics = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return TextClassifier(config, ("1", "two", "drei"), 5, 12, 4, vocabulary, params, statistics, batch_size=4)


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path


def texts(seed, count, longest=40):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(count)]


def test_a_saved_model_answers_as_before_wherever_its_folder_goes(model, folder, tmp_path):
    elsewhere = shutil.move(folder / "model", tmp_path / "elsewhere")
    again = load(elsewhere)
    assert isinstance(again, TextClassifier)
    assert again.classes == model.classes
    np.testing.assert_array_equal(again.predict_proba(texts(0, 7)), model.predict_proba(texts(0, 7)))


def test_probabilities_are_those_of_each_text_whatever_comes_with_it(model):
    many = texts(1, 11)
    together = model.predict_proba(many)
    assert together.shape == (11, 3)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-6)
    for text, row in zip(many, together, strict=True):
        np.testing.assert_allclose(model.predict_proba([text])[0], row, rtol=1e-5, atol=1e-6)
    assert model.predict(many) == [model.classes[i] for i in together.argmax(axis=1)]


def test_no_texts_give_no_rows(model):
    assert model.predict_proba([]).shape == (0, 3)


def test_an_empty_text_is_answered_and_counted(model):
    with pytest.warns(UserWarning, match="2 of 3 texts are empty"):
        probabilities = model.predict_proba(["fine", " \n", None])
    np.testing.assert_array_equal(probabilities[1], probabilities[2])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no finished model: name the folder of a run that has ended"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        load(tmp_path / "nowhere")
    write_json(tmp_path / "config.json", {})
    with pytest.raises(InputError, match="holds no finished model: let the run end first, with --resume"):
        load(tmp_path)


@pytest.mark.parametrize("missing", ["classes", "encoder", "bptt"])
def test_a_damaged_description_is_refused(folder, missing):
    path = folder / "model/model.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != missing})
    (folder / "model" / CHECKSUMS).unlink()
    with pytest.raises(InputError, match=r"model\.json does not describe a model"):
        load(folder)


def test_damaged_weights_are_refused(folder):
    path = folder / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    (folder / "model" / CHECKSUMS).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is"):
        load(folder)
    (folder / "model/vocabulary.json").unlink()
    with pytest.raises(InputError, match=r"^the vocabulary .*vocabulary\.json cannot be read"):
        load(folder)


def test_a_file_of_texts_comes_back_in_its_order(model, folder, tmp_path):
    many = texts(2, 9)
    (tmp_path / "in.csv").write_text("\n".join(["text", *many]), encoding="utf-8")
    predict.main([str(folder), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")])
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "label,p(1),p(two),p(drei)"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[0] for row in rows] == model.predict(many)
    np.testing.assert_allclose([[float(p) for p in row[1:]] for row in rows], model.predict_proba(many), atol=1e-6)


def test_lines_of_text_become_lines_of_json(model, folder, tmp_path):
    lines = texts(2, 5)
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    target = tmp_path / "answers.jsonl"
    predict.main([str(folder), "--input", str(tmp_path / "lines.txt"), "--output", str(target), "--json-lines"])
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert [answer["text"] for answer in answers] == lines
    assert [answer["label"] for answer in answers] == model.predict(lines)


def test_columns_of_a_text_are_joined_as_in_training(model, folder, tmp_path):
    rows = ["3,The film,was fine", "1,Dull,the film was dull"]
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    flags = ["--columns", "stars,title,text", "--text-column", "title,text", "--json-lines"]
    predict.main([str(folder), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.jsonl"), *flags])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    joined = ["xxfld 1 The film xxfld 2 was fine", "xxfld 1 Dull xxfld 2 the film was dull"]
    assert [line["text"] for line in lines] == joined
    assert [line["label"] for line in lines] == model.predict(joined)


def test_every_row_of_a_file_with_quotation_marks_in_its_texts_is_answered(folder, tmp_path):
    rows = ['"the film was dull', "fine", 'dull"', "the film"]
    (tmp_path / "in.tsv").write_text("id\ttext\n" + "".join(f"{i}\t{row}\n" for i, row in enumerate(rows)))
    predict.main([str(folder), "--input", str(tmp_path / "in.tsv"), "--output", str(tmp_path / "out.csv")])
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + len(rows)


def test_a_bad_row_leaves_no_output(folder, tmp_path):
    (tmp_path / "in.csv").write_text("text\nfine\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"in\.csv.*(row|line) 3"):
        predict.main([str(folder), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")])
    assert not [path for path in tmp_path.iterdir() if "out.csv" in path.name]


class Refusing:
    """A model of pairs or of single texts that refuses one of them."""

    task, classes, marks_fields, text_columns = "classification", ("yes",), False, ()

    def __init__(self, pairs=False):
        self.pairs = pairs

    def answers(self, texts):
        for index, text in enumerate(texts):
            if "refused" in (text if isinstance(text, str) else " ".join(text)):
                raise TextError(index, "is refused: leave it out")
        return [{"label": "yes"}] * len(texts)


PLACES = {
    "in.txt": ("fine\n" * 4500 + "refused\n", "in.txt, line 4501"),
    "in.txt.gz": (gzip.compress(b"\n" * 4500 + b"refused\n"), "in.txt.gz, line 4501"),
    "in.csv": ('text\n"two\nlines"\n' + "fine\n" * 4500 + "refused\n", "in.csv, row 4503"),
    "in.tsv": ("id\ttext\n" + "1\tfine\n" * 4500 + "2\trefused\n", "in.tsv, row 4502"),
    "in.jsonl": ('{"text": "fine"}\n\n' * 4500 + '{"text": "refused"}\n', "in.jsonl, line 9001"),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("json_lines", [False, True])
def test_a_text_that_the_model_refuses_is_named_by_its_place(tmp_path, name, json_lines):
    content, place = PLACES[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    request = predict.Request(Path("run"), input=tmp_path / name, json_lines=json_lines)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}.{place} is refused: leave it out$"):
        predict.write_answers(Refusing(), request, io.StringIO())


def test_a_refused_pair_line_or_text_is_named_by_its_place(tmp_path, monkeypatch):
    (tmp_path / "in.csv").write_text("text,other\n" + "a,b\n" * 4999 + "a,refused\n")
    request = predict.Request(Path("run"), input=tmp_path / "in.csv", pair_column="other")
    with pytest.raises(InputError, match=r"in\.csv, row 5001 is refused"):
        predict.write_answers(Refusing(pairs=True), request, io.StringIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n" * 4500 + b"refused\n")))
    request = predict.Request(Path("run"), input=predict.STANDARD_INPUT)
    with pytest.raises(InputError, match=r"^standard input, line 4501 is refused"):
        predict.write_answers(Refusing(), request, io.StringIO())
    monkeypatch.setattr("jaxft.inference.load.load", lambda *_: Refusing())
    with pytest.raises(InputError, match=r"^--text is refused"):
        predict.main(["run", "--text", "refused"])


def test_single_texts_for_a_model_of_pairs_are_refused_by_line(tiny_checkpoint, tmp_path):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    model = EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b"), 20, pairs=True)
    (tmp_path / "in.txt").write_text("a film\n")
    with pytest.raises(InputError, match=r"in\.txt, line 1 is not a pair, and the model reads pairs: add"):
        predict.write_answers(model, predict.Request(Path("run"), input=tmp_path / "in.txt"), io.StringIO())
    request = predict.Request(Path("run"), input=tmp_path / "in.txt", pair_column="other")
    with pytest.raises(InputError, match=r"in\.txt holds a text per line and no column 'other': give a table of pairs"):
        predict.write_answers(model, request, io.StringIO())
    with pytest.raises(InputError, match=r"^texts\[1\] is not a pair"):
        model.predict([("a", "b"), "c"])


@pytest.mark.parametrize(("name", "place"), [("in.txt", "line 4501"), ("in.csv", "row 4502")])
def test_an_empty_text_far_down_is_named_with_strict_and_counted_without(tmp_path, capsys, name, place):
    header = "" if name == "in.txt" else "text\n"
    empty = "" if name == "in.txt" else '""'
    (tmp_path / name).write_text(header + "the film\n" * 4500 + f"{empty}\n" + "was fine\n" * 9)
    request = predict.Request(Path("run"), input=tmp_path / name, strict=True)
    with pytest.raises(InputError, match=rf"{name}, {place} (is|has an) empty"):
        predict.write_answers(Refusing(), request, io.StringIO())
    file = io.StringIO()
    predict.write_answers(Refusing(), replace(request, strict=False), file)
    assert len(file.getvalue().splitlines()) == 1 + 4510
    assert "1 of 4,510 texts are empty" in capsys.readouterr().err


@pytest.mark.realdata
def test_the_blank_line_of_the_case_is_named(cases):
    request = predict.Request(Path("run"), input=cases / "text/predict_blank_4501.txt", strict=True)
    with pytest.raises(InputError, match=r"predict_blank_4501\.txt, line 4501 is empty"):
        predict.write_answers(Refusing(), request, io.StringIO())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --text"),
        (["--text", "a", "--input", "b.csv"], "give one of --text"),
        (["--text", "a", "--output", "b.csv"], "--output is given without --input"),
        (["--text", "a", "--json-lines"], "--json-lines is given without --input"),
        (["--text", "a", "--pair", "b"], "reads single texts: leave out --pair"),
        (["--text", "a", "--pair-column", "b"], "--pair-column is given without --input"),
        (["--generate", "a"], "holds no language model for --generate"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        predict.main([str(folder), *arguments])


def test_help_begins_with_two_examples_on_lines_of_their_own(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Examples:")
    assert all(line.startswith("  python -m jaxft.predict runs/imdb --") for line in lines[start + 1 : start + 3])


def test_the_file_that_is_read_is_not_written_over(folder, tmp_path):
    source = tmp_path / "texts.csv"
    source.write_text("text\nthe film was fine\n")
    with pytest.raises(InputError, match="are the same file"):
        predict.main([str(folder), "--input", str(source), "--output", str(tmp_path / "." / "texts.csv")])
    assert source.read_text() == "text\nthe film was fine\n"


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(folder, tmp_path):
    source = tmp_path / "texts.csv"
    source.write_text("text\n" + "the film was fine\n" * 20_000)
    command = f"{sys.executable} -m jaxft.predict {folder} --input {source} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("label,p(1)")
    assert (done.returncode, done.stderr) == (0, "")


def test_standard_input_is_answered_as_it_comes(folder):
    command = [sys.executable, "-m", "jaxft", "predict", str(folder), "--input", "-", "--json-lines"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in ("fine", "so dull", "dull"):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == line, "an answer before there is another line"
    process.stdin.close()
    assert process.stdout.read() == ""
    process.stdout.close()
    assert process.wait() == 0


def test_an_error_ends_a_stream_that_is_open_with_one_sentence(folder):
    command = [sys.executable, "-m", "jaxft", "predict", str(folder), "--input", "-", "--strict"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("fine\n\n")
        process.stdin.flush()
        lines = [line for line in process.stderr if line.startswith("jaxft")]
        assert process.wait() == 2
    assert lines == ["jaxft: standard input, line 2 is empty: remove it, or leave out --strict\n"]


def test_what_is_no_list_of_texts_is_refused(model):
    pandas = pytest.importorskip("pandas")
    for table in (pandas.DataFrame({"text": ["fine"]}), {"text": ["fine"]}):
        with pytest.raises(InputError, match=r"the texts are a table: give its column of texts"):
            model.predict(table)
    with pytest.raises(InputError, match=r"texts\[0\] has half a surrogate pair"):
        model.predict(["\ud800"])
    with pytest.warns(UserWarning, match="1 of 1 texts are empty"):
        assert model.predict(None) in model.classes


def test_empty_texts_are_counted_or_refused(folder, tmp_path, capsys):
    (tmp_path / "in.csv").write_text('text\nfine\n""\ndull\n', encoding="utf-8")
    (tmp_path / "in.txt").write_text("fine\n \n", encoding="utf-8")
    for name, rows, place in (("in.csv", 3, "row 3"), ("in.txt", 2, "line 2")):
        flags = [str(folder), "--input", str(tmp_path / name), "--output", str(tmp_path / "out.csv")]
        predict.main(flags)
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + rows
        assert f"1 of {rows} texts are empty, and answered as texts without words; --strict" in capsys.readouterr().err
        with pytest.raises(InputError, match=f"{place}.* empty"):
            predict.main([*flags, "--strict"])


def test_one_text_gets_one_answer_and_many_a_list(model):
    pandas = pytest.importorskip("pandas")
    many = texts(0, 3)
    assert model.predict(many[0]) == model.predict(many)[0]
    assert model.predict_proba(many[0]).shape == (3,)
    for others in (tuple(many), np.array(many), pandas.Series(many), iter(many)):
        assert model.predict(others) == model.predict(many)
    with pytest.raises(InputError, match=r"the texts are of the type int: give a string or a list"):
        model.predict(3)
    with pytest.raises(InputError, match=r"texts\[1\] is 3: give a string"):
        model.predict(["fine", 3])
    assert repr(model).startswith("TextClassifier(3 classes: ")
    assert len(repr(model).splitlines()) == 1
