"""Settings, their ranges and the presets: what a command line may say."""

from dataclasses import asdict

import pytest

from jaxft.errors import InputError
from jaxft.training.settings import flag, flatten
from jaxft.ulmfit.presets import PRESETS, parse
from jaxft.ulmfit.settings import RANGES


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_back_to_itself(name):
    settings = PRESETS[name]
    assert parse(["--preset", name, "--data", settings.data]) == settings


def test_a_flag_changes_one_value_of_its_preset():
    base, changed = (
        flatten(asdict(parse(["--preset", "paper", *more]))) for more in ([], ["--lm.dropout.weight", "0.1"])
    )
    assert {name for name in base if base[name] != changed[name]} == {"lm.dropout.weight"}


def test_a_misspelt_flag_fails_with_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--lm.peek-rate", "0.1"])
    assert stop.value.code == 2
    assert "peek-rate" in capsys.readouterr().err


def test_every_number_has_a_range():
    values = flatten(asdict(PRESETS["small"]))
    numbers = {name for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    # Dropouts are checked times their factor.
    assert set(RANGES) - {"limit_unlabelled"} == {name for name in numbers if ".dropout." not in name}


@pytest.mark.parametrize("name", RANGES)
def test_a_value_below_its_range_is_refused_by_its_flag(name):
    with pytest.raises(InputError, match=rf"{flag(name)} -1(\.0)? is out of its range: give a number"):
        parse([flag(name), "-1"])


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_rate_that_is_no_number_is_refused(value):
    with pytest.raises(InputError, match=r"--lm\.peak-rate"):
        parse(["--lm.peak-rate", value])


def test_a_dropout_that_would_drop_everything_is_refused():
    with pytest.raises(InputError, match=r"--classifier\.dropout\.weight 0\.5 times --classifier\.drop-mult 2\.0"):
        parse(["--preset", "paper", "--classifier.drop-mult", "2"])
