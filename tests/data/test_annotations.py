"""Exports of annotation tools: what is skipped and counted, what is refused, and offsets as others read them."""

import gzip
import itertools
import json

import pytest

from jaxft.data.spans import read_spans
from jaxft.data.tagged_files import read_sentences
from jaxft.errors import InputError
from tests.data.tagged_forms import (
    FORMS,
    TRUTH,
    doccano,
    doccano_entities,
    label_studio,
    label_studio_short,
    prodigy,
    rows,
    spacy_object,
    spacy_pair,
    tokens_and_tags,
)

CUT = "spans begin or end within a token and take the whole of it, or have no token and are left out"


def read(tmp_path, content, name="a.json"):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    read = read_sentences(tmp_path / name)
    return read, [line.removeprefix(f"{tmp_path / name}: ") for line in read.lines]


@pytest.mark.parametrize(
    "row",
    [
        {"text": "Ada left", "label": [[0, 2, "PER"], [4, 7, "X"]]},
        {"text": "Ada left", "entities": [{"start_offset": 0, "end_offset": 2, "label": "PER"}, [3, 7, "X"]]},
        {"text": "Ada left", "spans": [{"start": 0, "end": 2, "label": "PER"}, [4, 7, "X"]], "answer": "accept"},
        ["Ada left", {"entities": [[0, 2, "PER"], [4, 7, "X"]]}],
        {"data": {"text": "Ada left"}, "annotations": [{"result": [
            {"value": {"start": 0, "end": 2, "labels": ["PER"]}}, {"value": {"start": 5, "end": 8, "labels": ["X"]}}
        ]}]},
    ],
)  # fmt: skip
def test_spans_that_cut_a_token_take_all_of_it_and_are_counted(tmp_path, row):
    found, lines = read(tmp_path, [row])
    assert found.splits["train"][0].tags == ("B-PER", "B-X")
    assert lines == [f"2 {CUT}"]


def test_only_accepted_examples_of_prodigy_are_read_and_the_others_counted(tmp_path):
    accepted = [prodigy(sentence) for sentence in TRUTH]
    others = [{**accepted[0], "answer": answer} for answer in ("reject", "ignore", "ignore")]
    found, lines = read(tmp_path, "".join(json.dumps(row) + "\n" for row in others[:1] + accepted + others[1:]))
    assert len(found.splits["train"]) == len(TRUTH)
    assert lines == ["3 examples whose answer is reject or ignore are skipped"]
    with pytest.raises(InputError, match=r"has no rows \(3 examples whose answer .* are skipped\): give some"):
        read(tmp_path, others)


def test_tasks_of_label_studio_are_read_once_and_without_those_that_are_not_finished(tmp_path):
    task = label_studio()(TRUTH[0])
    cancelled = {**task, "annotations": [{"was_cancelled": True, "result": task["annotations"][1]["result"]}]}
    none = {**task, "annotations": []}
    truth = {**task, "annotations": [{"result": []}, {**task["annotations"][1], "ground_truth": True}]}
    found, lines = read(tmp_path, [cancelled, none, {"data": task["data"]}, truth])
    assert [sentence.tags for sentence in found.splits["train"]] == [TRUTH[0].tags]
    assert lines == [
        "3 tasks without a finished annotation are skipped",
        "1 further annotations of tasks that have several are left out",
    ]


def test_relations_and_choices_are_no_spans(tmp_path):
    task = label_studio()(TRUTH[0])
    task["annotations"][1]["result"] += [
        {"type": "relation", "from_id": "x", "to_id": "y"},
        {"type": "choices", "value": {"choices": ["news"]}},
    ]
    assert read(tmp_path, [task])[0].splits["train"][0].tags == TRUTH[0].tags


@pytest.mark.parametrize("places", [(0, 3), ("0", "3"), (0.0, 3.0)])
def test_places_are_whole_numbers_however_they_are_written(tmp_path, places):
    found, lines = read(tmp_path, [{"text": "Ada left", "label": [[*places, "X"]]}])
    assert found.splits["train"][0].tags == ("B-X", "O")
    assert not lines


def test_splits_in_one_object_are_kept(tmp_path):
    row = {"tokens": ["Ada"], "ner_tags": ["B-PER"]}
    found, _ = read(tmp_path, {"train": [row, row], "validation": [row], "test": [row]})
    assert {split: len(sentences) for split, sentences in found.splits.items()} == {"train": 2, "dev": 1, "test": 1}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"text": "Ada left", "label": [[0, 3, "X"], [0, 8, "Y"]]}], r"item 1 .*overlaps another entity, X from 0"),
        ([{"text": "Ada", "label": [[0, 9, "X"]]}], r"item 1 has a span that does not fit its text"),
        ([{"text": "Ada", "label": [[0, 3, 7]]}], r"item 1 has the span \[0, 3, 7\]: give its start, end and type"),
        ([{"text": "Ada", "label": [[0.5, 3, "X"]]}], r"item 1 has the span \[0.5, 3, 'X'\]"),
        ([{"text": "Ada"}], r"item 1 has no column of tags, only 'text': call it 'tags'"),
        ([{"text": "Ada", "label": "PER"}], r"item 1 has 'PER' for its tags: give a list"),
        ([["Ada", {"entities": [[0, 3]]}]], r"item 1 has the span \[0, 3\]"),
        ([{"tokens": ["Ada"], "ner_tags": [1]}], r"item 1 has numbers for its tags: give their names, .* as Parquet"),
        ([{"tokens": ["Ada"], "ner_tags": ["B_PER"]}], r"item 1 has the tag 'B_PER'.*likely means 'B-PER'"),
        ([{"data": {"a": "b", "c": "d"}, "annotations": [{"result": []}]}], r"item 1 has no text in its data"),
        ([{"data": {"text": "Ada"}, "annotations": [
            {"result": [{"value": {"start": 1, "end": 3, "text": "Ad", "labels": ["X"]}}]}
        ]}], r"item 1 has 'da' at the characters 1 to 3, and 'Ad' in its annotation"),
        ([1], r"item 1 is neither an object nor a text with its spans"),
        ([], r"a\.json has no rows"),
        ('[{"text": "Ada",\n"label": [}]', r"line 2 is not valid JSON from character 11 on: write one value per line"),
        ('{"text": "Ada", "label": []}\n{"text"\n', r"line 2 is not valid JSON"),
        ('{"text": "Ada", "label": []}\r{"text": "Ivo", "label": []}\r', "ends its lines with carriage returns"),
        ("[" + "1" * 5000 + "]", r"line 1 is not valid JSON, as a number is too long"),
        ("[" * 100_000, r"line 1 is not valid JSON, as it is nested too deeply"),
    ],
)  # fmt: skip
def test_bad_examples_are_refused_by_their_place(tmp_path, value, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, value)
    assert "a.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("row", [{"text": "Ada", "label": [[0, 9, "X"]]}, {"tokens": ["a"], "tags": ["B_X"]}, "Ada"])
def test_a_line_far_below_in_a_compressed_file_is_named(tmp_path, row):
    good = (
        {"tokens": ["a"], "tags": ["B-X"]}
        if isinstance(row, dict) and "tokens" in row
        else {"text": "Ada", "label": []}
    )
    content = (json.dumps(good) + "\n\n") * 3000 + json.dumps(row) + "\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    with pytest.raises(InputError, match=r"a\.jsonl\.gz, line 6001 "):
        read_sentences(tmp_path / "a.jsonl.gz")


def test_spacy_aligns_the_offsets_to_the_same_tokens(tmp_path):
    spacy = pytest.importorskip("spacy")
    training = pytest.importorskip("spacy.training")
    nlp, path = spacy.blank("en"), tmp_path / "a.json"
    path.write_text(rows(spacy_pair, "list")(TRUTH))
    for sentence, truth in zip(read_sentences(path).splits["train"], TRUTH, strict=True):
        text, annotations = spacy_pair(truth)
        document = nlp.make_doc(text)
        assert [token.text for token in document] == list(sentence.tokens)
        biluo = training.offsets_to_biluo_tags(document, annotations["entities"])
        (tmp_path / "b.txt").write_text("".join(f"{t} {tag}\n" for t, tag in zip(sentence.tokens, biluo, strict=True)))
        (same,) = read_sentences(tmp_path / "b.txt").splits["train"]
        assert read_spans(same.tags) == read_spans(sentence.tags)


@pytest.mark.parametrize("form", ["tokens and tags", "words and ner", "doccano, entities", "spaCy, objects", "Prodigy"])
def test_datasets_reads_the_same_rows(tmp_path, form):
    datasets = pytest.importorskip("datasets")
    from jaxft.data.memory import Table, as_table

    name, write = FORMS[form]
    path = tmp_path / name
    path.write_text(write([sentence for sentence in TRUTH if any(tag != "O" for tag in sentence.tags)]))
    table = datasets.load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train")
    in_memory = as_table(table)
    assert isinstance(in_memory, Table)
    assert read_sentences(in_memory).splits == read_sentences(path).splits


def test_names_of_numbered_tags_come_from_the_schema_that_datasets_writes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    names = ["O", "B-PER", "I-PER"]
    table = pyarrow.table({"tokens": [["Ada", "left"]], "ner_tags": [[1, 0]]})
    for kind in ({"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}, [{"names": names}]):
        features = {"info": {"features": {"tokens": {"_type": "List"}, "ner_tags": kind}}}
        named = table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
        parquet.write_table(named, tmp_path / "a.parquet")
        feather.write_feather(named, tmp_path / "a.arrow")
        for file in ("a.parquet", "a.arrow"):
            assert read_sentences(tmp_path / file).splits["train"][0].tags == ("B-PER", "O")
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row 1 has numbers for its tags"):
        read_sentences(tmp_path / "a.parquet")


def test_a_file_that_datasets_writes_keeps_the_names_of_its_tags(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
    label = datasets.ClassLabel(names=names)
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(label)})
    columns = {"tokens": [list(s.tokens) for s in TRUTH], "ner_tags": [list(s.tags) for s in TRUTH]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "a.parquet")
    assert read_sentences(tmp_path / "a.parquet").splits["train"] == TRUTH


EXAMPLES = [label_studio(), label_studio_short, prodigy, spacy_pair, spacy_object, doccano("label")]
EXAMPLES += [doccano_entities("entities"), doccano_entities("annotations"), tokens_and_tags("tokens", "tags")]
ODD = [
    None,
    True,
    0,
    -1,
    10**9,
    0.5,
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    [1],
    ["x"],
    {"start": "0"},
    {"labels": [1]},
]


def nodes(value, path=()):
    """The path of every value within a value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from nodes(one, (*path, key))


def replaced(value, path, odd):
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], odd)
    return copy


@pytest.mark.parametrize("example", range(len(EXAMPLES)))
def test_an_example_with_an_odd_value_anywhere_is_read_or_refused_in_one_sentence(tmp_path, example):
    good = json.loads(json.dumps(EXAMPLES[example](TRUTH[0])))
    messages = []
    for path, odd in itertools.product(nodes(good), ODD):
        (tmp_path / "a.json").write_text(json.dumps([good, replaced(good, path, odd)]))
        try:
            sentences = read_sentences(tmp_path / "a.json").splits["train"]
        except InputError as error:
            messages.append(str(error))
        else:
            assert all(len(sentence.tokens) == len(sentence.tags) > 0 for sentence in sentences)
            assert all(isinstance(token, str) and token for sentence in sentences for token in sentence.tokens)
    assert all("\n" not in message and "a.json, item" in message for message in messages)
    assert not [
        message for message in messages if "NoneType" in message or "indices" in message or "object is" in message
    ]
