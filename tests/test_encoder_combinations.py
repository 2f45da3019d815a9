"""Every architecture, head, pooler and kind of tokenizer, through what both jobs read and one abstract step."""

import itertools
from pathlib import Path
from typing import Any

import pytest

import jaxft
from jaxft.errors import InputError
from jaxft.finetune.job import prepare as prepare_finetune
from jaxft.finetune.settings import parse as parse_finetune
from jaxft.finetune.stages import as_model
from jaxft.ner.job import prepare as prepare_ner
from jaxft.ner.settings import parse as parse_ner
from jaxft.training.stage import check_stage
from tests.checkpoints import ARCHITECTURES, HEADS, TOKENIZERS, WITHOUT_POOLER, write_checkpoint

ENCODERS = [
    (architecture, head, pooler)
    for architecture, head, pooler in itertools.product(ARCHITECTURES, HEADS, (False, True))
    if not (pooler and architecture in WITHOUT_POOLER)
]
JOBS = ("finetune", "ner")
CHECKED: set[Any] = set()
"""jobs and encoders whose step was taken: it depends on the shapes alone, which tokenizers and left-out heads share"""


def usual(architecture: str, head: str) -> tuple[str, bool, str]:
    """The job, the pooler and the tokenizer with which an architecture and a head are always tested, in turns."""
    i, j = ARCHITECTURES.index(architecture), HEADS.index(head)
    pooler = (i + j) % 2 == 0 and architecture not in WITHOUT_POOLER
    return JOBS[(i + j // 2) % len(JOBS)], pooler, TOKENIZERS[(i + j) % len(TOKENIZERS)]


def combinations() -> list[Any]:
    """All combinations; those that are not exhaustive have each architecture with each head."""
    result = []
    for job, (architecture, head, pooler), tokenizer in itertools.product(JOBS, ENCODERS, TOKENIZERS):
        is_usual = (job, pooler, tokenizer) == usual(architecture, head)
        marks = pytest.mark.exhaustive if not is_usual else pytest.mark.slow if head != "sequence" else []
        result.append(pytest.param(job, architecture, head, pooler, tokenizer, marks=marks))
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of texts, one of them without any letter, and a file of tagged sentences."""
    folder = tmp_path_factory.mktemp("data")
    rows = [f"{text},{label}" for text, label in [("good film", "pos"), ("bad film", "neg"), ("\u200b", "neg")] * 8]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    sentence = "ada B-PER\nbyron I-PER\nin O\nrome B-LOC\n{0} O\n\n\u200b O\nso O\n{0} O\n\n"
    (folder / "tags.train").write_text("".join(sentence.format(i) for i in range(8)), encoding="utf-8")
    return folder


def prepared(job: str, folder: Path, data: Path, *flags: str) -> Any:
    if job == "ner":
        flags = ("--data", str(data / "tags"), "--encoder", str(folder), *flags)
        return prepare_ner(parse_ner([*flags, "--max-length", "16"]))
    flags = ("--data", str(data / "texts.csv"), "--model", str(folder), *flags)
    return prepare_finetune(parse_finetune([*flags, "--max-length", "16"]))


@pytest.mark.parametrize(("job", "architecture", "head", "pooler", "tokenizer"), combinations())
def test_every_combination_reaches_its_first_step(job, architecture, head, pooler, tokenizer, data, tmp_path):
    """Takes 1,152 combinations, of which 60 are not exhaustive.

    They are 10 architectures x 6 heads x with or without a pooler, where there can be one, x 6 tokenizers x 2 jobs.
    """
    folder = write_checkpoint(tmp_path / "checkpoint", architecture, head, pooler, tokenizer)
    if architecture == "modernbert" and tokenizer in ("vocab.txt", "slow"):  # which its models do not have
        with pytest.raises(InputError, match="holds no tokenizer that can be read"):
            prepared(job, folder, data)
        return
    ready = prepared(job, folder, data)
    encoder = ready.inputs.fns.encoder if job == "ner" else ready.inputs[0].encoder
    assert any("is left out" in line for line in ready.lines) == (head != "none")
    assert (encoder.config.num_labels is None) == (job == "ner")
    if (job, encoder.config) not in CHECKED:
        CHECKED.add((job, encoder.config))
        for stage in ready.stages():
            check_stage(stage)


def test_there_are_as_many_combinations_as_the_docstring_says():
    every = combinations()
    always = [one for one in every if all(mark.name != "exhaustive" for mark in one.marks)]
    assert (len(every), len(always)) == (1152, 60)
    for architecture in ARCHITECTURES:
        values = [one.values for one in always if one.values[1] == architecture]
        assert {value[0] for value in values} == set(JOBS)
        assert {value[4] for value in values} == set(TOKENIZERS)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_of_finetune_is_loaded_whole_and_is_an_encoder_for_both_jobs(architecture, pooling, data, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", architecture)
    ready = prepared("finetune", folder, data, "--pooling", pooling, "--remat")
    assert ready.inputs[0].encoder.remat
    as_model(ready.inputs[0], ready.settings, ready.inputs[0].encoder.params).save(tmp_path / "model")
    assert jaxft.load(tmp_path / "model").encoder.config == ready.inputs[0].encoder.config
    assert prepared("finetune", tmp_path / "model", data).inputs[0].encoder.config.pooling == pooling
    tagger = prepared("ner", tmp_path / "model", data, "--remat")
    assert tagger.inputs.fns.encoder.remat
    assert tagger.inputs.fns.encoder.config.num_labels is None
    assert any("the head of the checkpoint (classifier" in line for line in tagger.lines)
