"""The command line of every training job: presets, usual flags, required flags, ranges and help."""

from dataclasses import asdict, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from jaxft.errors import InputError
from jaxft.finetune.settings import COMMAND as FINETUNE
from jaxft.ner.settings import COMMAND as NER
from jaxft.pretrain.settings import COMMAND as PRETRAIN
from jaxft.training.command_line import Command
from jaxft.training.settings import check_ranges, flag, flatten
from jaxft.ulmfit.presets import COMMAND as ULMFIT

REQUIRED = {
    "ulmfit": ["--data", "reviews.csv"],
    "finetune": ["--model", "tiny", "--data", "reviews.csv"],
    "ner": ["--data", "tags"],
    "pretrain": ["--text", "book.txt"],
}
COMMANDS: dict[str, Command[Any]] = {command.job: command for command in (ULMFIT, FINETUNE, NER, PRETRAIN)}
COMMONLIT, WARMUP = ["--preset", "commonlit"], ["--train.warmup", "0.5"]
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
    words = " ".join(" ".join(line.strip("│ ") for line in lines).split())
    assert words.count("(required)") == len(COMMANDS[job].required)
    for name in COMMANDS[job].required:
        assert "(required)" in words.partition(" options ")[2].partition(f" {flag(name)} ")[2].partition(" --")[0]
    assert "default: ''" not in words


@pytest.mark.parametrize("job", ["finetune", "ner"])
def test_a_missing_flag_ends_with_status_2(job, capsys):
    with pytest.raises(SystemExit) as stop:
        COMMANDS[job].parse([])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(flag(name) in message for name in COMMANDS[job].required)


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
    names = ("peak_rate", "epochs", "batch_size", "weight_decay")
    assert [values[f"{stage}.{name}"] for name in names] == [0.5, 7, 3, 0.25]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("--lr", "peak-rate"),
        ("--learning-rate=3", "peak-rate"),
        ("--learning_rate", "peak-rate"),
        ("--epochs=3", "epochs"),
        ("--batch_size", "batch-size"),
        ("--weight-decay", "weight-decay"),
    ],
)
def test_usual_flags_of_several_stages_are_answered_with_the_flags_meant(name, meant):
    asked = name.partition("=")[0]
    with pytest.raises(InputError) as error:
        parse("ulmfit", name, "3")
    assert str(error.value) == f"{asked} is not a flag of jaxft.ulmfit: give --lm.{meant} or --classifier.{meant}"


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
    for job, flags in (("ulmfit", r"--lm\.schedule or --classifier\.schedule"), ("pretrain", r"--lm\.schedule")):
        with pytest.raises(InputError, match=rf"^--warmup is not a flag of jaxft\.{job}: .* choose one with {flags}$"):
            parse(job, "--warmup", "0.1")


@pytest.mark.parametrize("job", COMMANDS)
def test_every_preset_parses_to_itself(job):
    command = COMMANDS[job]
    for name, preset in command.presets.items():
        assert command.ranges.keys() <= flatten(asdict(preset)).keys()
        parsed, expected = (flatten(asdict(x)) for x in (parse(job, "--preset", name), preset))
        changed = {key for key in expected if parsed[key] != expected[key]}
        assert changed <= {"model", "data", "files"}, name


def test_the_preset_that_auto_means_depends_on_the_other_flags():
    assert COMMANDS["ulmfit"].parse(["--data", "demo"]).preset == "demo"
    assert parse("ulmfit") == ULMFIT.parse([*REQUIRED["ulmfit"], "--preset", "small"])
    with_encoder = parse("ner", "--encoder", "bert-base-cased", "--train.epochs", "2")
    assert (with_encoder.preset, with_encoder.train.epochs, with_encoder.train.head_rate) == ("encoder", 2, 2e-3)
    assert parse("ner", "--encoder", "bert-base-cased", "--preset", "plain").train.head_rate is None


def test_a_flag_beats_its_preset_though_it_comes_first():
    before, after = (parse("finetune", *arguments) for arguments in (COMMONLIT + WARMUP, WARMUP + COMMONLIT))
    assert before == after
    assert (after.train.warmup, after.train.reinit_layers) == (0.5, 5)


def numbers_of(settings):
    """The dotted names of all settings that are numbers, those that may be None included."""
    for name, annotation in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if is_dataclass(value):
            yield from (f"{name}.{below}" for below in numbers_of(value))
        elif {int, float} & {annotation, *get_args(annotation)} and get_origin(annotation) is not tuple:
            yield name


@pytest.mark.parametrize("job", COMMANDS)
def test_every_number_has_a_range(job):
    command = COMMANDS[job]
    numbers = set(numbers_of(next(iter(command.presets.values()))))
    free = {"tag_column"}  # as many as the columns of the file
    if job == "ulmfit":
        free |= {"limit_labels"}  # as many as there are classes, at least
    # Dropouts are checked times their multiplier.
    assert {name for name in numbers if ".dropout." not in name} - free == set(command.ranges)


def replaced(settings, name, value):
    first, _, rest = name.partition(".")
    return replace(settings, **{first: replaced(getattr(settings, first), rest, value) if rest else value})


@pytest.mark.parametrize("job", COMMANDS)
def test_a_number_below_its_range_is_refused_by_its_flag(job):
    ranges, settings = COMMANDS[job].ranges, parse(job)
    every_flag = [argument for name in ranges for argument in (flag(name), "-1")]
    with pytest.raises(InputError, match=rf"^{flag(next(iter(ranges)))} -1 is out of its range: give a number"):
        parse(job, *every_flag)
    for name in ranges:
        with pytest.raises(InputError, match=rf"^{flag(name)} -1 is out of its range: give a number"):
            check_ranges(replaced(settings, name, -1), ranges)
