"""Predicts with a finished model: `python -m jaxft.predict RUN --text "..."`.

From Python, `jaxft.load(RUN)` loads the same model. Modules that are slow to import are imported where they are used,
so that help appears at once.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, Annotated, Any, BinaryIO, Literal

import tyro

from jaxft.base.files import replacing
from jaxft.data.columns import Columns, Quoting, column_names
from jaxft.errors import InputError, TextError, run_job

STANDARD_INPUT = Path("-")
TEXTS_AT_ONCE = 4096
"""Texts of an input file that are read, sorted by length and given to the model together."""
HELP = """Predicts labels, numbers or entities of texts with the model of a finished run, or continues a text.

Examples:
  python -m jaxft.predict runs/imdb --text "A lovely, warm film."
  python -m jaxft.predict runs/imdb --input reviews.csv --output labels.csv
"""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, or of a saved model, or the name of a model on the Hugging Face hub"""
    revision: str | None = None
    """branch, tag or commit of a model on the hub"""
    text: str | None = None
    """one text; the answer is printed as JSON"""
    pair: str | None = None
    """the second text, with --text, for a model that reads pairs"""
    input: Path | None = None
    """file of texts: a table (.csv, .tsv, .jsonl, .json, .parquet or .arrow), or a .txt file with a text per line; -
    reads lines from standard input and answers each as it comes"""
    output: Path | None = None
    """file for the answers to --input, in the order of its texts; without it they go to standard output"""
    json_lines: bool = False
    """write the answers to --input as JSON, an object per line, instead of CSV"""
    text_column: str | None = None
    """column of the texts in a table, or several with commas between them that are read as one text; by default those
    of training where they were several, and else text"""
    pair_column: str | None = None
    """column of the second texts in a table, for a model that reads pairs"""
    columns: str | None = None
    """names of all columns, in their order with commas between them, of a .csv or .tsv file without a header row"""
    quoting: Quoting = "auto"
    """whether quotation marks enclose the fields of a .csv or .tsv file: inner ones doubled, inner ones after a
    backslash, or none, where they are characters; auto is doubled for .csv, and what fits the whole file for .tsv"""
    generate: str | None = None
    """beginning of a text that the run's language model continues; the end of it for a backward model"""
    devices: Literal["all"] | int = "all"
    """number of devices that share the texts of --input, or all that there are, a CPU being one"""
    strict: bool = False
    """refuse an empty text of --input; by default it is answered as a text without words, and counted at the end"""
    words: int = 50
    """the most words, or subwords, that --generate adds, from 1 to 10,000"""
    temperature: float = 0.8
    """randomness of --generate, from 0 to 100: 1 samples as the model predicts, less prefers likely words"""
    seed: int = 0
    """seed of the sampling of --generate, from 0 to 2147483647"""


def check(request: Request) -> None:
    """Checks that the flags go together.

    Raises:
        InputError: they do not.
    """
    if [request.text, request.input, request.generate].count(None) != 2:
        raise InputError("the flags do not say what to predict: give one of --text, --input and --generate")
    if request.pair is not None and request.text is None:
        raise InputError("--pair is given without --text: give the first text with --text")
    if request.pair_column is not None and request.input is None:
        raise InputError("--pair-column is given without --input: give a table with --input")
    if request.json_lines and request.input is None:
        raise InputError("--json-lines is given without --input: leave it out, because --text prints JSON anyway")
    if request.devices != "all" and request.devices < 1:
        raise InputError(f"--devices {request.devices} is out of its range: give a number at least 1, or all")
    if request.output is None:
        return
    if request.input is None or not request.output.name:
        raise InputError("--output is given without --input or without a file name: give both")
    if os.path.realpath(request.output) == os.path.realpath(request.input):
        raise InputError(f"--output and --input are the same file, {request.output}: give --output another name")


def generate(request: Request) -> None:
    """Continues the text of --generate and prints it.

    Raises:
        InputError: the run has no language model, or a number is out of range.
    """
    from jaxft.inference.language_model import TextLanguageModel
    from jaxft.inference.load import LANGUAGE_MODELS, load

    folders = [request.run / name for name in LANGUAGE_MODELS.values()]
    model = load(next((folder for folder in folders if folder.is_dir()), request.run), request.revision)
    if not isinstance(model, TextLanguageModel):
        raise InputError(f"{request.run} holds no language model for --generate: name a run that trained one")
    print(model.generate(request.generate or "", request.words, request.temperature, request.seed))


def predict(request: Request) -> None:
    """Prints or writes the answers to --text or --input.

    Raises:
        InputError: there is no finished model, the flags do not fit it, or a text cannot be read.
    """
    from jaxft.data.files import SURROGATE
    from jaxft.inference.language_model import TextLanguageModel
    from jaxft.inference.load import load

    model = load(request.run, request.revision)
    if isinstance(model, TextLanguageModel):
        raise InputError(f"{request.run} holds a language model, which has no labels to predict: give --generate")
    if not model.pairs and (request.pair is not None or request.pair_column is not None):
        raise InputError(f"{request.run} reads single texts: leave out --pair and --pair-column")
    if request.text is None:
        with _answers_file(request.output) as file:
            write_answers(model, request, file)
        return
    if any(SURROGATE.search(part) for part in (request.text, request.pair or "")):
        raise InputError("--text or --pair is not UTF-8: encode it as UTF-8, or give it in a file")
    text = request.text if request.pair is None else (request.text, request.pair)
    print(json.dumps(_answers(model, [text], ["--text"])[0], ensure_ascii=False))


def write_answers(model: Any, request: Request, file: IO[Any]) -> None:
    """Writes the answers to --input: JSON lines, or a table with a row per text, or per entity for a tagger.

    Raises:
        InputError: a text cannot be read, or the model refuses it.
    """
    from jaxft.data.table import is_table, table_notes
    from jaxft.inference.predictor import describe_empty
    from jaxft.inference.tagger import EntityTagger

    columns = Columns(
        text=column_names(request.text_column, "--text-column") or model.text_columns or ("text",),
        pair=request.pair_column,
        label=None,
        names=column_names(request.columns, "--columns", may_be_unnamed=True),
        quoting=request.quoting,
    )
    path = request.input or STANDARD_INPUT
    if is_table(path):
        for note in table_notes(path, columns):
            print(f"jaxft: {note}", file=sys.stderr)
    texts = Texts(read_texts(path, columns, mark_fields=model.marks_fields, strict=request.strict))
    chunks = _as_they_come(texts) if path == STANDARD_INPUT else _chunks(texts)
    answered = _answered(model, chunks, file)
    if request.json_lines:
        file.writelines(json.dumps({"text": text, **answer}, ensure_ascii=False) + "\n" for text, answer in answered)
    elif isinstance(model, EntityTagger):
        _write_entities((answer for _, answer in answered), file)
    else:
        _write_table((answer for _, answer in answered), file)
    if texts.empty:
        print(f"jaxft: {describe_empty(texts.empty, texts.count)}; --strict refuses them", file=sys.stderr)


class Texts:
    """An iterator of places and texts that counts the texts that are empty."""

    def __init__(self, texts: Iterator[tuple[str, Any]]) -> None:
        self._texts, self.count, self.empty = texts, 0, 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        from jaxft.inference.predictor import count_empty

        for place, text in self._texts:
            self.count += 1
            self.empty += count_empty([text])
            yield place, text


def read_texts(
    path: Path, columns: Columns, mark_fields: bool = False, strict: bool = False
) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """Streams the texts of a file, each with its place: the lines of plain text, or the given columns of a table.

    Args:
        path: a table, a .txt file, or `STANDARD_INPUT`.
        columns: the columns of the texts, and of the second texts where they are pairs.
        mark_fields: whether texts of several columns are joined with marks.
        strict: whether an empty text is refused.

    Raises:
        InputError: the file, or a text in it, cannot be read; the sentence names the line or row.
    """
    from jaxft.data.files import decompressed, text_lines
    from jaxft.data.table import row_texts, rows, table_suffix

    if path == STANDARD_INPUT or table_suffix(path) == ".txt":
        if columns.pair is not None:
            raise InputError(
                f"--input {path} holds a text per line and no column {columns.pair!r}: give a table of pairs"
            )
        with decompressed(path) if path != STANDARD_INPUT else _standard_input() as stream:
            name = path if path != STANDARD_INPUT else Path("standard input")
            for number, line in enumerate(text_lines(stream, name), 1):
                place = f"{name}, line {number}"
                if strict and not line.strip():
                    raise InputError(f"{place} is empty: remove it, or leave out --strict")
                yield place, line.rstrip("\r\n")
        return
    for where, fields in rows(path, columns):
        texts = row_texts(fields, columns, where, mark_fields, may_be_empty=not strict)
        yield where, texts if columns.pair is not None else texts[0]


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    """Standard input by a reader of its own: Python ends badly where a thread still reads its `sys.stdin`."""
    if sys.stdin is None:
        raise InputError("standard input is closed, which --input - reads: open it, or name a file")
    try:
        number = os.dup(sys.stdin.fileno())
    except (OSError, ValueError):  # it is no file
        yield sys.stdin.buffer
        return
    with open(number, "rb") as stream:
        yield stream


def _chunks(texts: Iterable[Any]) -> Iterator[list[Any]]:
    """The texts with their places in lists of `TEXTS_AT_ONCE`."""
    rest = iter(texts)
    while chunk := list(islice(rest, TEXTS_AT_ONCE)):
        yield chunk


def _as_they_come(texts: Iterable[Any]) -> Iterator[list[Any]]:
    """As `_chunks`, in lists of those that have come while the last list was answered, so that no text waits."""
    waiting: Queue[Any] = Queue(TEXTS_AT_ONCE)
    end = object()

    def read() -> None:
        try:
            for text in texts:
                waiting.put(text)
            waiting.put(end)
        except Exception as error:  # raised where the texts are used
            waiting.put(error)

    Thread(target=read, daemon=True).start()
    last = None
    while last is not end:
        chunk, last = [waiting.get()], None
        while not waiting.empty():
            chunk.append(waiting.get())
        if chunk[-1] is end or isinstance(chunk[-1], Exception):
            last = chunk.pop()
        if chunk:
            yield chunk
        if isinstance(last, Exception):
            raise last


def _answered(model: Any, chunks: Iterable[list[Any]], file: IO[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each text with the model's answer, in order; what is written of a chunk is handed on before the next is read."""
    for chunk in chunks:
        places, texts = zip(*chunk, strict=True)
        yield from zip(texts, _answers(model, texts, places), strict=True)
        file.flush()


def _answers(model: Any, texts: Sequence[Any], places: Sequence[str]) -> list[dict[str, Any]]:
    """The model's answers; where it refuses a text, the error names its place.

    Raises:
        InputError: the model refuses a text.
    """
    try:
        return model.answers(texts)
    except TextError as error:
        raise error.at(places[error.index]) from error


def _write_table(answers: Iterable[dict[str, Any]], file: IO[Any]) -> None:
    from jaxft.inference.answers import table_row

    writer = None
    for row in map(table_row, answers):
        if writer is None:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
        writer.writerow(row)


def _write_entities(answers: Iterable[dict[str, Any]], file: IO[Any]) -> None:
    writer = csv.DictWriter(file, ["row", "type", "start", "end", "text", "score"])
    writer.writeheader()
    for number, answer in enumerate(answers, 1):
        writer.writerows({"row": number, **entity} for entity in answer["entities"])


def _output_descriptor() -> int | None:
    """A copy of the descriptor of standard output; None where a program that runs the command reads what it writes."""
    try:
        return os.dup(sys.stdout.fileno())
    except io.UnsupportedOperation:
        return None


@contextmanager
def _answers_file(path: Path | None) -> Iterator[IO[Any]]:
    """Opens the file for the answers, which is whole or absent, or standard output."""
    if path is not None:
        with replacing(path, newline="") as file:
            yield file
        return
    if sys.stdout is None:
        raise InputError("standard output is closed: open it, or name a file with --output")
    try:
        descriptor = _output_descriptor()
        if descriptor is None:
            yield sys.stdout
            return
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
            yield file
    except BrokenPipeError:  # the reader has enough, which is no error
        raise
    except OSError as error:
        if error.filename is not None:  # it comes from an input, and not from standard output
            raise
        raise InputError(f"cannot write to standard output ({error.strerror}): name a file with --output") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    request = tyro.cli(Request, prog="python -m jaxft.predict", description=HELP, args=arguments)
    check(request)
    from jaxft.training.devices import sharing_devices
    from jaxft.training.process import set_up

    set_up()
    if request.generate is not None:
        generate(request)
        return
    with sharing_devices(1 if request.input is None else request.devices):
        predict(request)


if __name__ == "__main__":
    run_job(main)
