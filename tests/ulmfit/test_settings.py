"""Settings, their ranges and the presets: what a command line may say."""

from dataclasses import asdict

import pytest

from jaxft import ulmfit
from jaxft.errors import InputError
from jaxft.training.settings import flatten
from jaxft.ulmfit.presets import PRESETS, parse


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_back_to_itself(name):
    settings = PRESETS[name]
    assert parse(["--preset", name, "--data", settings.data]) == settings


def test_a_flag_changes_one_value_of_its_preset():
    base, changed = (
        flatten(asdict(parse(["--preset", "paper", *more]))) for more in ([], ["--lm.dropout.weight", "0.1"])
    )
    assert {name for name in base if base[name] != changed[name]} == {"lm.dropout.weight"}


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_rate_that_is_no_number_is_refused(value):
    with pytest.raises(InputError, match=r"--lm\.peak-rate"):
        parse(["--lm.peak-rate", value])


def test_a_dropout_that_would_drop_everything_is_refused():
    with pytest.raises(InputError, match=r"--classifier\.dropout\.weight 0\.5 times --classifier\.drop-mult 2\.0"):
        parse(["--preset", "paper", "--classifier.drop-mult", "2"])


def test_a_batch_of_one_text_is_refused():
    with pytest.raises(InputError, match=r"^--classifier\.batch-size 1 leaves .*batch norm.*: give at least 2$"):
        parse(["--classifier.batch-size", "1"])
    with pytest.raises(InputError, match=r"^classifier\.batch_size 1 leaves"):
        ulmfit.fit(["fine", "dull"], ["pos", "neg"], classifier={"batch_size": 1})
    assert parse(["--classifier.batch-size", "2"]).classifier.batch_size == 2
