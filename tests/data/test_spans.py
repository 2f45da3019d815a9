"""Entities and their scores are those of seqeval, tags of any scheme become any other, and bad files are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.spans import count_orphans, entity_scores, read_spans, write_tags
from jaxft.data.tagged import read_tagged
from jaxft.errors import InputError

CASES = json.loads((Path(__file__).parents[1] / "golden/spans.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_equals_seqeval(case):
    assert [[list(span) for span in read_spans(tags)] for tags in case["true"]] == case["spans"]
    scores = entity_scores(case["true"], case["predicted"])
    micro = [scores[f"micro_{name}"] for name in ("precision", "recall", "f1")]
    assert micro == pytest.approx(case["micro"])
    assert scores["macro_f1"] == pytest.approx(case["macro_f1"])
    rows = np.array(list(case["types"].values()), np.float64).reshape(-1, 4)
    means = [scores[f"macro_{name}"] for name in ("precision", "recall")]
    assert means == pytest.approx(rows[:, :2].mean(axis=0).tolist() if len(rows) else [0.0, 0.0])
    types = {row["class"]: [row["precision"], row["recall"], row["f1"], row["support"]] for row in scores["per_class"]}
    assert types == {name: pytest.approx(row) for name, row in case["types"].items()}


@given(st.lists(st.tuples(st.sampled_from(["PER", "LOC"]), st.integers(0, 2), st.integers(1, 3)), max_size=5))
def test_every_scheme_marks_the_same_entities(parts):
    spans, place = [], 0
    for name, gap, length in parts:
        spans.append((name, place + gap, place + gap + length))
        place += gap + length
    for scheme in ("BIO", "BIOES"):
        tags = write_tags(spans, place + 1, scheme)
        assert read_spans(tags) == spans
        assert count_orphans(tags) == 0
        assert entity_scores([tags], [tags])["micro_f1"] == (1.0 if spans else 0.0)


def test_iob1_begins_entities_with_i():
    tags = ["I-PER", "I-PER", "B-PER", "O", "I-LOC"]
    assert write_tags(read_spans(tags), 5) == ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
    assert count_orphans(tags) == 2


def test_sentences_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 tags and 1 predicted"):
        entity_scores([["O", "O"]], [["O"]])


def test_columns_of_several_forms(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("-DOCSTART- O\n\nAda NNP B-PER\nLovelace NNP I-PER\n\n\nran VBD O\n\ufeff", encoding="utf-8")
    first, second = read_tagged(path)
    assert (first.tokens, first.tags) == (("Ada", "Lovelace"), ("B-PER", "I-PER"))
    assert second.tokens == ("ran",)
    tabs = tmp_path / "b.txt"
    tabs.write_text("New York\tB-LOC\t1\n")
    assert [sentence.tokens for sentence in read_tagged(tabs, column=1)] == [("New York",)]


def test_json_lines_with_places(tmp_path):
    path = tmp_path / "a.json"
    line = {"text": "浙商银行企业部", "label": {"company": {"浙商银行": [[0, 3]]}, "organization": {"部": [[6, 6]]}}}
    path.write_text(json.dumps(line, ensure_ascii=False), encoding="utf-8")
    (sentence,) = read_tagged(path)
    assert "".join(sentence.tokens) == "浙商银行企业部"
    assert read_spans(sentence.tags) == [("company", 0, 4), ("organization", 6, 7)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "Ada B-PER\nran\n", r"a\.txt, line 2 has 1 columns and the line before has 2"),
        ("a.txt", "Ada\n", r"line 1 has no column -1 in 'Ada': name the column of the tags"),
        ("a.txt", "Ada PER\n", r"line 1 has the tag 'PER', which is neither O nor"),
        ("a.txt", "Ada X-PER\n", "the tag 'X-PER'"),
        ("a.txt", "\n\n", "has no sentences"),
        ("a.json", '{"text": "ab", "label": {"PER": {"b": [[1, 2]]}}}', "PER from 1 to 2 is not in the text"),
        ("a.json", '{"text": "ab", "label": {"PER": {"ab": [[0, 1]]}, "LOC": {"b": [[1, 1]]}}}', "overlaps"),
        ("a.json", '{"text": "ab"}', "line 1 is not an object with a text and its labels"),
        ("a.json", "[1]", "line 1 is not an object"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        list(read_tagged(path))
    assert "\n" not in str(error.value)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "sentences", "entities"),
    [("cluener.test", 1343, 2982), ("people_daily.test", 4636, 7707), ("wnut17.train", 3394, None)],
)
def test_the_real_files(real_data, name, sentences, entities):
    found = list(read_tagged(real_data / "ner" / name))
    assert len(found) == sentences
    if entities is not None:
        assert sum(len(read_spans(sentence.tags)) for sentence in found) == entities
