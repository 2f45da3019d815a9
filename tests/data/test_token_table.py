"""Tables with a token per row or a sentence per row: their headers, their quotes, and the place of what is refused."""

import gzip

import pytest

from jaxft.data.tagged_files import read_sentences
from jaxft.errors import InputError


def read(tmp_path, content, name="a.csv", **columns):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        list(zip(s.tokens, s.tags, strict=True)) for s in read_sentences(tmp_path / name, **columns).splits["train"]
    ]


KAGGLE = "Sentence #,Word,POS,Tag\nSentence: 1,Ada,NNP,B-per\n,left,VBD,O\nSentence: 2,Ivo,NNP,B-per\n"
SENTENCES = [[("Ada", "B-per"), ("left", "O")], [("Ivo", "B-per")]]


@pytest.mark.parametrize(
    "sentence", ["Sentence #", "sentence_id", "Sentence ID", "sent_idx", "SENTENCE", '"Sentence #"']
)
@pytest.mark.parametrize("word", ["Word", "token", "Tokens"])
@pytest.mark.parametrize("tag", ["Tag", "NER", "ner_tag", "label", "NER Tag"])
def test_columns_are_found_by_their_names(tmp_path, sentence, word, tag):
    assert read(tmp_path, KAGGLE.replace("Sentence #,Word,POS,Tag", f"{sentence},{word},POS,{tag}")) == SENTENCES


@pytest.mark.parametrize("comma", [',",",",",O', ",,,,O", ',",",PUNCT,O', ",,,PUNCT,O"])
def test_a_comma_is_a_token_with_quotes_and_without(tmp_path, comma):
    assert read(tmp_path, f"{KAGGLE}{comma}\n")[1][1] == (",", "O")


def test_quotes_are_tokens_where_tabs_separate(tmp_path):
    assert read(tmp_path, 'token\ttag\n"\tO\nAda\tB-X\n', "a.tsv") == [[('"', "O"), ("Ada", "B-X")]]
    assert read(tmp_path, 'token,tag\n"""",O\nAda,B-X\n') == [[('"', "O"), ("Ada", "B-X")]]


@pytest.mark.parametrize(
    "row",
    [
        "\"['Ada', 'left']\",\"['B-per', 'O']\"",
        "\"['Ada' 'left']\",\"['B-per' 'O']\"",
        '"[""Ada"", ""left""]","[""B-per"", ""O""]"',
        "Ada left,B-per O",
    ],
)
@pytest.mark.parametrize("header", ["tokens,ner_tags", "text,labels", "Sentence,Tag"])
def test_a_row_can_hold_a_sentence(tmp_path, row, header):
    assert read(tmp_path, f"{header}\n{row}\n{row}\n") == [SENTENCES[0]] * 2


def test_flags_choose_other_columns_than_the_header(tmp_path):
    content = "word,lemma,tag,ner\nAda,ada,NN,B-X\nleft,leave,VB,O\n"
    assert read(tmp_path, content, tag_column=3, token_column=1) == [[("ada", "B-X"), ("leave", "O")]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (KAGGLE + ",Ada,NNP\n", "line 5 has 3 fields and the header has 4"),
        (KAGGLE + ",a,b,c,d,e\n", "line 5 has 6 fields and the header has 4: quote a token"),
        (KAGGLE + ",,NNP,O\n", "line 5 has a tag without a token"),
        (KAGGLE + ",Ada,NNP,0\n", "line 5 has the tag '0', .*likely means the letter O"),
        (KAGGLE + ',"Ada"x,NNP,O\n', "line 5 has a quotation mark in the wrong place"),
        (KAGGLE.replace("left", "Andr\u00e9").encode("latin-1"), "line 3 has the byte 0xe9, which is not UTF-8: save"),
        (KAGGLE.replace("\n", "\r"), "ends its lines with carriage returns alone, as old Macs did"),
        ("token,tag\n" + "a,O\n" * 600, "has nothing that ends a sentence: add a column 'sentence_id', or blank lines"),
        ("token,tag\n", "has no sentences"),
        ("tokens,tags\nAda left,B-X O\nAda left,O O O\n", "line 3 has 2 tokens and 3 tags: give one tag per token"),
        ("text,label\nAda is good,pos\n", "line 2 has the tag 'pos'"),
    ],
)
def test_bad_rows_are_refused_by_line(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"a\.csv,? {message}") as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_a_line_far_below_in_a_compressed_file_is_named(tmp_path):
    content = "Sentence #,Word,POS,Tag\n" + "S1,a,b,O\n" * 5000 + ",a,b,B_X\n"
    with pytest.raises(InputError, match=r"a\.csv\.gz, line 5002 has the tag 'B_X'"):
        read(tmp_path, gzip.compress(content.encode()), "a.csv.gz")
