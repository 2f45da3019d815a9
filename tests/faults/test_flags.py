"""Random flags of every command, and numbers and names that have fallen."""

from dataclasses import replace

import pytest

from jaxft.errors import InputError, one_line
from jaxft.finetune.plan import finetune_plan
from jaxft.finetune.settings import Training
from jaxft.ner.settings import Settings
from jaxft.ner.settings import Training as NerTraining
from jaxft.ner.settings import parse as parse_ner
from jaxft.ner.stages import ner_plan
from jaxft.ulmfit.job import prepare
from jaxft.ulmfit.presets import parse
from tests.faults.flags import Fuzzer
from tests.faults.outcomes import fault_of, run

LONG = "a" * 5000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        work = tmp_path_factory.mktemp("flags")
        patch.setenv("JAXFT_CACHE", str(work / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("jaxft.language_model.estimate.product_speed", lambda *_: 1e10)
        patch.setattr("jaxft.training.process.set_up", lambda: None)
        patch.chdir(work)
        yield Fuzzer(work, seed=0)


@pytest.mark.parametrize("number", range(24))
def test_odd_flags_are_obeyed_or_refused(fuzzer, number):
    assert fuzzer.fault(*fuzzer.random_command(number)) is None


@pytest.mark.exhaustive
@pytest.mark.parametrize("value", ["2147483647", "1e30", "1e-30", "-1", "0", "x"])
def test_every_flag_obeys_or_refuses_a_value(fuzzer, value):
    assert list(filter(None, (fuzzer.fault(*command) for command in fuzzer.commands(value)))) == []


@pytest.mark.parametrize("flag", ["--lm.epochs", "--classifier.epochs", "--classifier.phase-steps"])
def test_more_steps_than_32_bits_count_are_refused(flag):
    with pytest.raises(InputError, match=rf"[0-9,]+ steps are more than the .*: lower .*{flag}"):
        prepare(parse(["--data", "demo", "--no-baseline", flag, "2147483647"]))


@pytest.mark.parametrize("many", [{"epochs": 2**31 - 1}, {"min_steps": 2**31 - 1}])
def test_a_plan_of_more_steps_than_32_bits_count_is_refused(many):
    with pytest.raises(InputError, match=r"lower --train\.epochs or --train\.min-steps"):
        finetune_plan(replace(Training(), **many), 2, 11)
    with pytest.raises(InputError, match=r"lower --train\.epochs or --train\.min-steps"):
        ner_plan(Settings(train=replace(NerTraining(), **many)), None, 11)


@pytest.mark.parametrize(
    "name", [LONG, "a\nb.csv", "a\rb.csv", "a\x1b[2Jb.csv", "a\u2028b.csv", "\udcff.csv", "~nobody/a.csv"]
)
def test_a_name_of_no_file_is_refused_in_one_line(tmp_path, name):
    from jaxft.ulmfit.__main__ import main

    outcome = run(lambda: main(["--data", name, "--out", str(tmp_path / "run")]))
    assert fault_of(outcome, ["does not exist", "File name too long"]) is None
    assert outcome.status == 2
    assert not any(character in outcome.err[:-1] for character in "\n\r\x1b\u2028")
    assert not (tmp_path / "run").exists()


def test_a_long_message_keeps_its_beginning_and_its_remedy():
    message = one_line(f"a.csv has {LONG}: correct it")
    assert message.startswith("a.csv has aaa")
    assert message.endswith("aaa: correct it")
    assert len(message) < 1000


@pytest.mark.parametrize("value", ["12345678901234567890", "-1", "2147483647"])
def test_counts_that_nothing_reaches_are_refused(value):
    with pytest.raises(InputError, match=r"--lm\.batch-size .* is out of its range"):
        parse(["--data", "demo", "--lm.batch-size", value])


def test_a_table_that_no_memory_holds_is_refused():
    with pytest.raises(InputError, match=r"--model\.bigrams 4294967295 is out of its range"):
        parse_ner(["--data", "train", "--model.bigrams", "4294967295"])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")])
def test_a_lack_of_memory_is_told_in_one_sentence(error):
    def job():
        raise error

    outcome = run(job)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "the memory does not suffice: lower the sizes" in outcome.err
