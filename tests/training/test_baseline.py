"""The linear baseline: what it scores, and texts that it cannot read."""

import re

import numpy as np

from jaxft.training.baseline import _WORD, NAME, linear_baseline


def test_words_and_pairs_of_words_tell_classes_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    texts = [" ".join(rng.permutation(["film", "plot", "not good" if label else "good not"])) for label in labels]
    result = linear_baseline(texts[:100], labels[:100].tolist(), texts[100:], labels[100:].tolist(), ["a", "b"])
    assert result["method"] == NAME
    assert result["accuracy"] > 0.95
    assert result["accuracy_interval"][0] < result["accuracy"]


def test_a_character_is_a_word_where_no_spaces_are_between_words():
    good, bad = ["这部电影很好看", "演员好得很", "好电影", "หนังดี"], ["这部电影很难看", "演员差得很", "差电影", "หนังแย่"]
    texts, labels = [*good, *bad], [1] * 4 + [0] * 4
    assert linear_baseline(texts, labels, ["很好", "太差", "ดี", "แย่"], [1, 0, 1, 0], ["neg", "pos"])["accuracy"] == 1


def test_latin_and_cyrillic_words_are_those_of_scikit_learn_and_vowel_signs_do_not_end_a_word():
    text = "It's a 2-part film_noir: naïve, Фильм №5, ｗｉｄｅ"
    assert _WORD.findall(text) == re.findall(r"(?u)\b\w\w+\b", text)
    assert _WORD.findall("हिन्दी में अच्छी फिल्म") == ["हिन्दी", "में", "अच्छी", "फिल्म"]
    assert _WORD.findall("スーパー") == list("スーパー")


def test_training_texts_of_one_class_leave_no_choice():
    scores = linear_baseline(["good film", "fine film"], [1, 1], ["bad", "good"], [0, 1], ["neg", "pos"])
    assert scores["accuracy"] == 0.5


def test_texts_without_a_word_have_no_score():
    assert linear_baseline(["!", "?"], [0, 1], ["."], [0], ["a", "b"]) == {"method": NAME}
