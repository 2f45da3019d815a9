"""The command line of every training job: presets, usual flags, required flags, ranges and help."""

from dataclasses import asdict
from typing import Any

import pytest

from jaxft.errors import InputError
from jaxft.finetune.settings import COMMAND as FINETUNE
from jaxft.ner.settings import COMMAND as NER
from jaxft.pretrain.settings import COMMAND as PRETRAIN
from jaxft.training.command_line import Command
from jaxft.training.settings import flag, flatten
from jaxft.ulmfit.presets import COMMAND as ULMFIT

REQUIRED = {
    "ulmfit": ["--data", "reviews.csv"],
    "finetune": ["--model", "tiny", "--data", "reviews.csv"],
    "ner": ["--data", "tags"],
    "pretrain": ["--text", "book.txt"],
}
COMMANDS: dict[str, Command[Any]] = {command.job: command for command in (ULMFIT, FINETUNE, NER, PRETRAIN)}
STAGES = {"ulmfit": ["lm", "classifier"], "finetune": ["train"], "ner": ["train"], "pretrain": ["lm"]}


def parse(job, *arguments):
    return COMMANDS[job].parse([*REQUIRED[job], *arguments])


@pytest.mark.parametrize("job", COMMANDS)
def test_help_starts_with_two_examples_and_names_what_is_required(job, capsys):
    with pytest.raises(SystemExit) as stop:
        COMMANDS[job].parse(["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Examples:")
    assert start < 8
    assert all(line.startswith(f"  python -m jaxft.{job} --") for line in lines[start + 1 : start + 3])
    assert ("(required)" in "\n".join(lines)) == bool(COMMANDS[job].required)
    assert "default: ''" not in "\n".join(lines)


@pytest.mark.parametrize("job", ["finetune", "ner"])
def test_a_missing_flag_ends_with_status_2(job, capsys):
    with pytest.raises(SystemExit) as stop:
        COMMANDS[job].parse([])
    assert stop.value.code == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.parametrize("job", COMMANDS)
def test_a_misspelt_flag_ends_with_status_2_and_is_named(job, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(job, "--sede", "1")
    assert stop.value.code == 2
    assert "--sede" in capsys.readouterr().err


@pytest.mark.parametrize("job", [job for job, stages in STAGES.items() if len(stages) == 1])
@pytest.mark.parametrize("spelling", [["--lr", "0.5"], ["--learning-rate=0.5"], ["--learning_rate", "0.5"]])
def test_usual_flags_are_understood_by_a_job_of_one_stage(job, spelling):
    stage = STAGES[job][0]
    settings = parse(job, *spelling, "--epochs", "7", "--batch-size", "3", "--weight-decay", "0.25")
    values = flatten(asdict(settings))
    found = [values[f"{stage}.{name}"] for name in ("peak_rate", "epochs", "batch_size", "weight_decay")]
    assert found == [0.5, 7, 3, 0.25]


@pytest.mark.parametrize(
    "name", ["--lr", "--learning-rate", "--epochs=3", "--batch_size", "--weight-decay", "--warmup"]
)
def test_usual_flags_of_several_stages_are_answered_with_the_flags_meant(name):
    with pytest.raises(InputError, match=r"is no flag of jaxft\.ulmfit: give --lm\.\S+ or --classifier\.\S+$"):
        parse("ulmfit", name, "3")


@pytest.mark.parametrize("job", COMMANDS)
def test_every_job_knows_output_dir_and_seed(job):
    settings = parse(job, "--output-dir", "runs/mine", "--seed", "5")
    assert (str(settings.out), settings.seed) == ("runs/mine", 5)


def test_warmup_and_max_length_fit_the_job():
    assert parse("finetune", "--warmup", "0.25").train.warmup == 0.25
    assert parse("ner", "--warmup", "0.25", "--max-length", "64").max_length == 64
    assert parse("ulmfit", "--max-length", "99").classifier.max_length == 99
    with pytest.raises(InputError, match=r"give --lm\.bptt"):
        parse("pretrain", "--max-length", "99")


@pytest.mark.parametrize("job", COMMANDS)
def test_every_preset_parses_to_itself(job):
    command = COMMANDS[job]
    for name, preset in command.presets.items():
        assert command.ranges.keys() <= flatten(asdict(preset)).keys()
        parsed, expected = (flatten(asdict(x)) for x in (parse(job, "--preset", name), preset))
        changed = {key for key in expected if parsed[key] != expected[key]}
        assert changed <= {"model", "data", "files"}, name


@pytest.mark.parametrize("job", COMMANDS)
def test_every_number_has_a_range(job):
    command = COMMANDS[job]
    values = flatten(asdict(next(iter(command.presets.values()))))
    numbers = {name for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    free = {"limit_labels", "tag_column"}  # their range depends on the data
    assert {name for name in numbers if ".dropout." not in name} - free <= set(command.ranges)


@pytest.mark.parametrize(("job", "name"), [(job, name) for job in COMMANDS for name in COMMANDS[job].ranges])
def test_a_number_below_its_range_is_refused_by_its_flag(job, name):
    with pytest.raises(InputError, match=rf"^{flag(name)} -1(\.0)? is out of its range: give a number"):
        parse(job, flag(name), "-1")
