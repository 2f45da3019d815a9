"""Files of columns: comments, counters, white space, tags of other forms, and the place of what is refused."""

import gzip

import pytest

from jaxft.data.spans import read_spans
from jaxft.data.tag_columns import read_columns
from jaxft.errors import InputError


def read(tmp_path, content, **columns):
    path = tmp_path / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_columns(path, **columns)


def pairs(sentences):
    return [list(zip(sentence.tokens, sentence.tags, strict=True)) for sentence in sentences]


@pytest.mark.parametrize(
    "comment", ["#", "# id", "# sent_id = 0", "#\thttp://example.org [2009-10-17]", "#id", "# text = O"]
)
@pytest.mark.parametrize("joined", [" ", "\t"])
def test_comments_are_skipped_and_counted(tmp_path, comment, joined):
    line = joined.join(["{}", "NN", "X", "NP", "{}"]) + "\n"
    block = f"{comment}\n{line.format('Ada', 'B-PER')}{line.format('left', 'O')}"
    sentences, lines = read(tmp_path, f"{block}\n{block}")
    assert pairs(sentences) == [[("Ada", "B-PER"), ("left", "O")]] * 2
    assert [line.partition("txt")[2] for line in lines] == [": 2 comment lines, which begin with #, are skipped"]


@pytest.mark.parametrize("joined", [" ", "\t", "   ", ";"])
@pytest.mark.parametrize("token", ["#", "#Ada", "##"])
def test_a_number_sign_with_a_tag_is_a_token(tmp_path, joined, token):
    sentences, lines = read(tmp_path, f"{token}{joined}O\n{token}{joined}B-PER\nleft{joined}O\n")
    assert pairs(sentences) == [[(token, "O"), (token, "B-PER"), ("left", "O")]]
    assert not lines


COUNTERS = {
    "restarting": "1 Ada B-PER\n2 left O\n\n1 Ivo B-PER\n",
    "from 0": "0 Ada B-PER\n1 left O\n\n0 Ivo B-PER\n",
    "rising": "1\tAda\tNN\tB-PER\n2\tleft\tVB\tO\n\n3\tIvo\tNN\tB-PER\n",
    "sentences": "1\tAda\tB-PER\n1\tleft\tO\n\n2\tIvo\tB-PER\n",
    "ranges": "1-2 Ada B-PER\n1 left O\n2 left O\n\n1 Ivo B-PER\n",
    "comments": "# 1\n1 Ada B-PER\n2 left O\n\n# 2\n1 Ivo B-PER\n",
}


@pytest.mark.parametrize("kind", COUNTERS)
def test_a_first_column_of_counters_is_refused_until_the_column_of_tokens_is_named(tmp_path, kind):
    with pytest.raises(InputError, match=r"a\.txt has counters, not tokens, in its first column: .* --token-column 1$"):
        read(tmp_path, COUNTERS[kind])
    sentences, _ = read(tmp_path, COUNTERS[kind], token_column=1)
    assert [token for sentence in sentences for token in sentence.tokens if token != "left"] == ["Ada", "Ivo"]
    assert read(tmp_path, COUNTERS[kind], token_column=0)[0]


def test_counters_before_two_columns_of_tags_name_both_flags(tmp_path):
    with pytest.raises(InputError, match="--token-column 1, and of the tags, --tag-column 2"):
        read(tmp_path, "1\tAda\tB-PER\tO\n2\tleft\tO\tO\n")


def test_numbers_can_be_tokens(tmp_path):
    assert pairs(read(tmp_path, "7 B-N\n8 O\n")[0]) == [[("7", "B-N"), ("8", "O")]]
    assert pairs(read(tmp_path, "7 X B-N\n3 X O\n")[0]) == [[("7", "B-N"), ("3", "O")]]


def test_a_column_besides_the_last_that_holds_tags_is_told(tmp_path):
    _, lines = read(tmp_path, "Ada B-PER B-NP\nleft O O\n")
    assert lines == ["columns 1 and 2 hold tags: column 2 is read, and --tag-column names another"]
    assert not read(tmp_path, "Ada B-PER B-NP\nleft O O\n", tag_column=1)[1]


@pytest.mark.parametrize("token", [" ", "\u3000", "\xa0", "\u200b", "\u2003"])
@pytest.mark.parametrize("joined", [" ", "\t"])
def test_white_space_is_a_token_where_it_has_a_tag(tmp_path, token, joined):
    content = f"Ada{joined}B-PER\n{token}{joined}O\nleft{joined}O\n"
    assert pairs(read(tmp_path, content)[0]) == [[("Ada", "B-PER"), (token, "O"), ("left", "O")]]
    first = f"{token}{joined}O\nAda{joined}B-PER\n"
    assert pairs(read(tmp_path, first)[0]) == [[(token, "O"), ("Ada", "B-PER")]]


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u3000", "\xa0", "\u200b", " \u200b ", "\ufeff"])
def test_a_line_of_white_space_alone_ends_a_sentence(tmp_path, blank):
    assert len(read(tmp_path, f"Ada B-PER\n{blank}\nleft O\n")[0]) == 2


@pytest.mark.parametrize("letters", ["BIES", "BILU", "BMES"])
def test_letters_of_other_schemes_mark_the_same_entities(tmp_path, letters):
    begin, inside, end, single = letters
    content = f"a {begin}-X\nb {inside}-X\nc {end}-X\nd {single}-X\ne {single}-X\nf O\ng {begin}-X\nh {end}-X\n"
    (sentence,), _ = read(tmp_path, content)
    assert read_spans(sentence.tags) == [("X", 0, 3), ("X", 3, 4), ("X", 4, 5), ("X", 6, 8)]


@pytest.mark.parametrize(
    ("tag", "meaning"),
    [
        ("0", "the letter O"),
        ("o", "the letter O"),
        ("\u041e", "the letter O"),
        ("B_PER", "'B-PER'"),
        ("b-per", "'B-per'"),
        ("i-PER", "'I-PER'"),
        ("U_PER", "'U-PER'"),
        ("B:PER", "'B-PER'"),
        ("B\u2013PER", "'B-PER'"),
        ("PER-B", "'B-PER'"),
        ("PER_I", "'I-PER'"),
        ("PER", "a type without its letter, as in 'B-PER' and 'I-PER', or no tag"),
        ("B", "a letter whose type is missing"),
        ("3", "the number of a tag, whose name is needed"),
        ("_", "the letter O, or an empty column"),
    ],
)
def test_a_tag_of_another_form_is_refused_with_its_likely_meaning(tmp_path, tag, meaning):
    with pytest.raises(InputError) as error:
        read(tmp_path, f"Ada O\nleft {tag}\n")
    assert f"a.txt, line 2 has the tag {tag!r}, " in str(error.value)
    assert f"({tag!r} likely means {meaning}): correct it, or name" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ada O\rleft O\r", "ends its lines with carriage returns alone, as old Macs did"),
        ("Ada O\nle\rft O\n", "line 2 has a carriage return within it"),
        (b"Ada O\nle\0ft O\n", "line 2 has a zero byte"),
        ("Ada O\nl\u00e9ft O\n".encode("latin-1"), "line 2 has the byte 0xe9, which is not UTF-8"),
        ("Ada B-PER _\nleft O _\n", "line 1 has the tag '_'.* or name the right column with --tag-column 1$"),
        ("Ada O\nleft O O\n", "line 2 has 3 columns and the line before has 2"),
    ],
)
def test_what_is_no_column_file_is_refused_by_line(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"a\.txt,? {message}"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("columns", "flag"), [({"token_column": 2}, "token"), ({"token_column": 1}, "token"), ({"tag_column": 2}, "tag")]
)
def test_a_column_that_no_line_has_is_refused_by_its_flag(tmp_path, columns, flag):
    with pytest.raises(
        InputError, match=rf"line 1 has no column \d .*name the column of the {flag}\w* with --{flag}-column"
    ):
        read(tmp_path, "Ada B-PER\n", **columns)


@pytest.mark.parametrize("bad", ["left", "left b-per", "left O O", "\tO"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_line_far_below_and_in_a_compressed_file_is_named(tmp_path, bad, compressed):
    content = ("# comment\nAda B-PER\n\n" * 2000 + bad + "\n").encode()
    path = tmp_path / ("a.txt" + ".gz" * compressed)
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(InputError, match=rf"{path.name}, line 6001 has"):
        read_columns(path)
