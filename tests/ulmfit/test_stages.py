"""How long the classifier's stage trains, and on how many texts at least."""

from dataclasses import replace

import pytest

from jaxft.data.corpus import open_corpus
from jaxft.data.splits import split_texts
from jaxft.data.store import build_store
from jaxft.errors import InputError
from jaxft.ulmfit.presets import GPU, SMALL
from jaxft.ulmfit.stages import classifier_plan, plans


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs"), [(2, [30, 30, 30, 30]), (14, [5, 5, 5, 5]), (100, [1, 1, 1, 2])]
)
def test_few_labels_get_more_epochs(steps_per_epoch, epochs):
    assert [phase.epochs for phase in classifier_plan(SMALL, steps_per_epoch)] == epochs
    stage = replace(SMALL.classifier, plan="full")
    assert [phase.epochs for phase in classifier_plan(replace(SMALL, classifier=stage), steps_per_epoch)] == epochs[-1:]
    assert [phase.epochs for phase in classifier_plan(GPU, steps_per_epoch)] == [max(4, epochs[-1])]


@pytest.mark.parametrize(("texts", "batch_size"), [(1, 32), (9, 1)])
def test_batch_norm_is_never_given_one_text(tmp_path, texts, batch_size):
    corpus = open_corpus("demo")
    store = build_store(corpus, tmp_path, workers=1, progress=False)
    few = split_texts(corpus, store, seed=0, dev_fraction=0.1, valid_fraction=0.1)
    stage = replace(SMALL.classifier, batch_size=batch_size)
    settings = replace(SMALL, lm=replace(SMALL.lm, epochs=0), classifier=stage)
    with pytest.raises(InputError, match="one text per step, which batch norm cannot learn from"):
        plans(replace(few, train=few.train[:texts]), settings)
