"""What a tagging job says before it trains: counts, lengths, unknown tokens, the first sentence and duplicates."""

import pytest

from jaxft.data.pieces import load_tokenizer
from jaxft.data.spans import Sentence
from jaxft.data.tag_pieces import TokenIds, tag_pieces
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.ner.__main__ import main
from jaxft.ner.inputs import read_inputs
from jaxft.ner.preview import first_sentence_line, preview_lines
from tests.ner.toy import settings

TAGS = ("O", "B-PER", "I-PER")
SENTENCES = {
    "train": [Sentence(("a", "film", "zzz"), ("O", "B-PER", "I-PER")), *[Sentence(("a",), ("O",))] * 2],
    "dev": [Sentence(("a",), ("O",)), Sentence(("zzz",), ("B-PER",))],
    "test": [],
}


def lines_of(tokenizer, max_length=128):
    ids = TokenIds(tokenizer)
    pieces = {
        part: tag_pieces([s.tokens for s in found], [s.tags for s in found], TAGS, "BIO", ids, max_length)
        for part, found in SENTENCES.items()
    }
    return preview_lines(SENTENCES, pieces, ids.unk_id)


def test_a_vocabulary_has_unknown_tokens():
    assert lines_of(Vocabulary.build({"a": 9, "film": 9})) == [
        "train: 3 sentences, 5 tokens, 1 entities (PER 1); 1 pieces in a median sentence, 3 at most; 20.0% of the "
        "tokens unknown",
        "dev: 2 sentences, 2 tokens, 1 entities (PER 1); 1 pieces in a median sentence, 1 at most; 50.0% of the tokens "
        "unknown",
        "first sentence: a/O film/B-PER zzz/I-PER",
    ]


def test_an_encoder_has_special_pieces_and_its_own_unknown_piece(tiny_checkpoint):
    train, dev, *_ = lines_of(load_tokenizer(tiny_checkpoint))
    assert train.endswith("3 pieces in a median sentence, 5 at most; 20.0% of the tokens unknown")
    assert dev.endswith("3 pieces in a median sentence, 3 at most; 50.0% of the tokens unknown")


def test_long_sentences_are_counted_and_cut_in_the_line():
    train, *_ = lines_of(Vocabulary.build({"a": 9, "film": 9}), max_length=2)
    assert "2 at most, 1 sentences in several windows; " in train
    long = [Sentence(("a",) * 30, ("O",) * 30)]
    assert first_sentence_line(long) == f"first sentence: {' '.join(['a/O'] * 20)} ..."


def test_a_dry_run_shows_what_was_read(data, tmp_path, capsys):
    main(["--data", f"{data}.train", "--out", str(tmp_path / "run"), "--dry-run"])
    shown = capsys.readouterr().out
    assert f"files: train {data}.train, dev {data}.dev (found beside the training file), test {data}.test" in shown
    assert "\ntrain: 80 sentences, " in shown
    assert "\nfirst sentence: " in shown
    assert "of the tokens unknown" in shown
    assert "sentences occur more than once; also in train: " in shown


COUNTED = {"PER": 60, "LOC": 58, "ORG": 38}
READ = {
    "bilou.train": (),
    "comment_text.train": ("80 comment lines, which begin with #, are skipped",),
    "doccano.jsonl": (),
    "hf_str.json": (),
    "kaggle_ner.csv": (),
    "labelstudio.json": (),
    "space_tok_msra.train": (),
    "conll2003": ("columns 2 and 3 hold tags",),
}


@pytest.mark.parametrize("name", READ)
def test_a_case_is_read_whole_and_shown(cases, tmp_path, name):
    inputs = read_inputs(settings(str(cases / "tagging" / name), tmp_path / "run"))
    counted = dict.fromkeys(COUNTED, 0)
    parts = ("train",) if name == "conll2003" else ("train", "dev")
    for part in parts:
        for sentence in inputs.sentences[part]:
            for kind in COUNTED:
                counted[kind] += sum(tag in (f"B-{kind}", f"U-{kind}", f"S-{kind}") for tag in sentence.tags)
    assert counted == COUNTED
    assert "first sentence: " in "\n".join(inputs.lines)
    for told in READ[name]:
        assert told in "\n".join(inputs.lines)


REFUSED = {
    "zero.train": r"line 8 has the tag '0', .*likely means the letter O",
    "germeval.train": r"counters, not tokens, in its first column: .*--token-column 1, and of the tags, --tag-column 2",
    "germeval_nocomment.train": r"counters, not tokens, in its first column: .*--token-column 1",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_is_refused_with_its_remedy(cases, tmp_path, name):
    with pytest.raises(InputError, match=REFUSED[name]):
        read_inputs(settings(str(cases / "tagging" / name), tmp_path / "run"))
    if name.startswith("germeval"):
        flags = ["--token-column", "1", "--tag-column", "2"]
        inputs = read_inputs(settings(str(cases / "tagging" / name), tmp_path / "run", *flags))
        assert sum("B-PER" in sentence.tags for part in inputs.sentences.values() for sentence in part) > 20
        comments = [line for line in inputs.lines if "80 comment lines" in line]
        assert len(comments) == (name == "germeval.train")
