"""Every form of tagged sentences, however the file is written, is read as the same sentences."""

import codecs
import gzip

import pytest

from jaxft.data.spans import read_spans
from jaxft.data.tagged_files import read_sentences
from tests.data.tagged_forms import FORMS, TRUTH

WRAPPERS = {
    "as it is": lambda content: content,
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "byte-order mark": lambda content: codecs.BOM_UTF8 + content,
    "gzip": gzip.compress,
    "leading blank lines": lambda content: b"\n\n" + content,
    "trailing spaces": lambda content: content.replace(b"\n", b"  \n"),
    "no last line end": lambda content: content.rstrip(b"\n"),
    "blank lines at the end": lambda content: content + b"\n \n\n",
}


def entities(sentences):
    return [(sentence.tokens, read_spans(sentence.tags)) for sentence in sentences]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read_as_the_sentences_that_it_holds(tmp_path, form, wrapper):
    name, write = FORMS[form]
    path = tmp_path / (name + ".gz" * (wrapper == "gzip"))
    path.write_bytes(WRAPPERS[wrapper](write(TRUTH).encode()))
    read = read_sentences(path)
    assert entities(read.splits["train"]) == entities(TRUTH)
    assert not [line for line in read.lines if "span" in line]
