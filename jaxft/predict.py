"""Uses a finished model: `python -m jaxft.predict RUN --text "..."`, or `jaxft.load(RUN)` from Python.

A model is a folder with `model.safetensors`, `model.json` and its vocabulary or tokenizer; a run keeps what answers in
`RUN/model` and its language models in `RUN/language_model` and `RUN/language_model_backward`. Nothing else of the run,
and no cache, is needed to use it.
"""

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TextIO

import tyro

from jaxft.data.files import decompressed, text_lines
from jaxft.data.table import SURROGATE, rows, table_suffix, text_field
from jaxft.errors import InputError, run_job
from jaxft.inference.answers import table_row
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.load import LANGUAGE_MODELS, load
from jaxft.inference.tagger import EntityTagger
from jaxft.training.process import set_up

STANDARD_INPUT = Path("-")
TEXTS_AT_ONCE = 4096
"""texts of an input file that are read, sorted by length and classified together"""


@dataclass(frozen=True)
class Request:
    """Uses the model of a finished run: classifies one text, or a file of them, or continues a text."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of the run"""
    text: str | None = None
    """one text; prints what the model says of it, such as its label and the probability of every class"""
    pair: str | None = None
    """the second text, for a model of pairs"""
    input: Path | None = None
    """CSV, TSV or JSONL file with a column of texts; or a .txt file, or - for standard input, with a text a line"""
    output: Path | None = None
    """file to write: what the model says of the texts, in the order of --input; standard output by default"""
    json_lines: bool = False
    """write a JSON object for every text, instead of CSV"""
    text_column: str = "text"
    """column of the texts in --input"""
    pair_column: str | None = None
    """column of the second texts, for a model of pairs"""
    generate: str | None = None
    """how a text begins that the run's language model continues"""
    words: int = 50
    """words that --generate adds at most"""
    temperature: float = 0.8
    """1 draws from the language model's own distribution, less keeps to likely words, 0 takes the likeliest"""
    seed: int = 0
    """seed of the draws of --generate"""


def _texts(path: Path, *columns: str) -> Iterator[str | tuple[str, ...]]:
    if path == STANDARD_INPUT or table_suffix(path) == ".txt":
        if path == STANDARD_INPUT and sys.stdin is None:
            raise InputError("--input - reads standard input, which is closed: open it, or name a file")
        with decompressed(path) if path != STANDARD_INPUT else nullcontext(sys.stdin.buffer) as stream:
            for line in text_lines(stream, path if path != STANDARD_INPUT else Path("standard input")):
                yield line.rstrip("\r\n")
        return
    flags = ("--text-column", "--pair-column")
    for where, fields in rows(path):
        texts = [text_field(fields, column, flag, where) for column, flag in zip(columns, flags, strict=False)]
        yield tuple(texts) if len(columns) > 1 else texts[0]


def _write_answers(model: Any, texts: Iterator[Any], file: TextIO, json_lines: bool) -> None:
    """Writes what the model says of every text; in CSV a row for each, or for a tagger a row for each entity."""
    writer, number = None, 0
    if isinstance(model, EntityTagger) and not json_lines:
        writer = csv.DictWriter(file, ["row", "type", "start", "end", "text"])
        writer.writeheader()
    while chunk := list(islice(texts, TEXTS_AT_ONCE)):
        for text, answer in zip(chunk, model.answers(chunk), strict=True):
            number += 1
            if json_lines:
                file.write(json.dumps({"text": text, **answer}, ensure_ascii=False) + "\n")
            elif writer is not None and isinstance(model, EntityTagger):
                writer.writerows({"row": number, **entity} for entity in answer["entities"])
            else:
                row = table_row(answer)
                if writer is None:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                writer.writerow(row)


def _predict_file(model: Any, request: Request, source: Path, columns: Sequence[str]) -> None:
    target, texts = request.output, _texts(source, *columns)
    temporary = None if target is None else target.with_name(f".{target.name}.tmp")
    try:
        with (
            open(temporary, "w", newline="", encoding="utf-8")
            if temporary
            else os.fdopen(os.dup(sys.stdout.fileno()), "w", newline="", encoding="utf-8") as file
        ):
            _write_answers(model, texts, file, request.json_lines)
        if temporary and target:
            os.replace(temporary, target)
    except BrokenPipeError:  # the reader has enough, which is no error
        raise
    except OSError as error:
        raise InputError(
            f"cannot write {target or 'to standard output'} ({error.strerror}): name a writable file with --output"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    request = tyro.cli(Request, prog="python -m jaxft.predict", args=arguments)
    if [request.text, request.input, request.generate].count(None) != 2:
        raise InputError("give one of --text, --input and --generate")
    if (request.pair is not None and request.text is None) or (
        request.pair_column is not None and request.input is None
    ):
        raise InputError("--pair goes with --text, and --pair-column with --input")
    if request.json_lines and request.input is None:
        raise InputError("--json-lines goes with --input; --text prints JSON anyway")
    if request.output is not None and (request.input is None or not request.output.name):
        raise InputError("--output names the file that the labels of --input are written to: give it a file's name")
    if request.input is not None and request.output is not None and request.output.resolve() == request.input.resolve():
        raise InputError(f"--output {request.output} is --input itself: give it another name")
    set_up()
    if request.generate is not None:
        folders = [request.run / name for name in LANGUAGE_MODELS.values()]
        generator = load(next((folder for folder in folders if folder.is_dir()), request.run))
        if not isinstance(generator, TextLanguageModel):
            raise InputError(f"{request.run} holds no language model to --generate with: name a run that trained one")
        print(generator.generate(request.generate, request.words, request.temperature, request.seed))
        return
    model = load(request.run)
    if isinstance(model, TextLanguageModel):
        raise InputError(f"{request.run} holds a language model and no classifier: give --generate instead")
    paired = request.pair is not None or request.pair_column is not None
    if paired and not getattr(model, "pairs", False):
        raise InputError(f"{request.run} reads single texts: leave out --pair and --pair-column")
    if request.text is not None:
        if any(SURROGATE.search(part) for part in (request.text, request.pair or "")):
            raise InputError("the text is not UTF-8: write it as such, or give it in a file")
        text = request.text if request.pair is None else (request.text, request.pair)
        print(json.dumps(model.answers([text])[0], ensure_ascii=False))
    elif request.input is not None:
        columns = [name for name in (request.text_column, request.pair_column) if name is not None]
        _predict_file(model, request, request.input, columns)


if __name__ == "__main__":
    run_job(main)
