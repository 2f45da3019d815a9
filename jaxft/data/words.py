"""The word tokenizer of fastai, which is spaCy's for blank English, for one run of non-space characters.

`jaxft.data.text` applies fastai's rules first, so the run is lower-cased, has no slash, hash or backslash inside a
word, and no character three times in a row. Exceptions that need any of those (`Mr.`, `:-D`, `w/o`, `<333`) cannot
occur and are not listed.

The steps are those of spaCy's documentation (https://spacy.io/usage/linguistic-features#how-tokenizer-works): strip
punctuation from both ends until an exception or nothing is left, keep a web address whole, otherwise split at infixes;
at the end restore the exceptions that these steps split. spaCy also looks for them across spaces: in "'a' ''b''" this
keeps it from restoring the first '', a difference that does not occur in 300 reviews of IMDB.
"""

import re
from collections.abc import Iterator, Mapping

import regex

# From spaCy 3.8's English data. Contractions occur with their apostrophes and without: "i'll" and "ill".
_ENDINGS = {
    "i": "'m|'m a|'ll|'ll 've|'d|'d 've|'ve",
    "you we they": "'ll|'ll 've|'d|'d 've|'ve|'re",
    "he she it": "'ll|'ll 've|'d|'d 've|'s",
    "who what when where why how there": "'s|'ll|'ll 've|'re|'ve|'d|'d 've",
    "that this": "'s|'ll|'ll 've|'d|'d 've",
    "these those": "'ll|'ll 've|'re|'ve|'d|'d 've",
    "ca could do does did had may might must need ought sha should wo would": "n't|n't 've",
    "ai are is was were have has dare": "n't",
    "could might must should would not": "'ve",
    **{" ".join(map(str, range(1, 13))): "a.m.|am|p.m.|pm"},
}
_REAL_WORDS = ("ill", "its", "hell", "shell", "shed", "were", "well", "whore")
_SPLIT = "y' all|y all|how 'd 'y|can not|gon na|got ta|let 's|c'm on|° c .|° f .|° k ."
_WHOLE = (
    "' '' 's ‘s 're 'd 'em em 'll ll 'nuff nuff 'cause 'cos 'coz 'cuz 'bout ma'am o'clock <space> "
    "doin doin' goin goin' nothin nothin' nuthin nuthin' ol ol' somethin somethin' lovin lovin' havin havin' "
    "a.m. p.m. co. e.g. i.e. vs. v.s. "
    "a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü. "
    ":) :-) :)) :-)) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-(( ): )-: "
    "=( >:( :') :'-) :'( :'-( =| :| :-| ]= =[ :1 :p :-p :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :x :-x "
    "^_^ ^__^ >.< >.> <.< ._. ;_; -_- -__- v.v v_v o_o 0_o o_0 0_0 o.o 0.0 o.0 0.o @_@ <3 <33 "
    "(^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) (╯°□°）╯︵┻━┻ —"
)


def _exceptions() -> Iterator[tuple[str, ...]]:
    """Yields the tokens of every exception."""
    for stems, endings in _ENDINGS.items():
        for stem in stems.split():
            for ending in endings.split("|"):
                yield (stem, *ending.split())
                if "." not in ending:
                    yield (stem, *ending.replace("'", "").split())
    yield from (tuple(pieces.split()) for pieces in _SPLIT.split("|"))
    yield from ((word,) for word in _WHOLE.split())


EXCEPTIONS = {
    "".join(tokens): tokens
    for straight in _exceptions()
    for tokens in (straight, tuple(token.replace("'", "’") for token in straight))
    if "".join(tokens) not in _REAL_WORDS
}

_LONGEST_EXCEPTION = max(map(len, EXCEPTIONS))

# Scripts without case count as both lower and upper.
_UNCASED = (
    r"\p{Ethiopic}\p{Hebrew}\p{Arabic}\p{Devanagari}\p{Bengali}\p{Tamil}\p{Telugu}\p{Kannada}\p{Sinhala}"
    r"\p{Hangul}\p{Hiragana}\p{Katakana}ー\p{Han}\u3000-\u303f"
)
_LOWER = rf"\p{{Ll}}{_UNCASED}"
_ALPHA = rf"\p{{Lu}}{_LOWER}"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_PUNCTUATION = r"…,:;!?¿؟¡()\[\]{}<>_#*&。？！，、；：～·।،۔؛٪"
_CURRENCY = "$£€¥฿₽﷼₴₠-₿"
_ENDS = _PUNCTUATION + _QUOTES + r"\p{So}—–"
_UNITS = (
    "km|km²|km³|m|m²|m³|dm|dm²|dm³|cm|cm²|cm³|mm|mm²|mm³|ha|µm|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|kmh|mph|mb|kb|gb|tb|%"
)
_PREFIX = regex.compile(rf"\.\.+|[{_ENDS}{_CURRENCY}§%=]|\+(?!\d)")
_SUFFIX = regex.compile(
    rf"(?:\.\.+|……|['’]s|[{_ENDS}]|(?<=[0-9])(?:\+|[{_CURRENCY}]|{_UNITS})|(?<=°[fck])\."
    rf"|(?<=[0-9{_LOWER}%²\-+|{_PUNCTUATION}{_QUOTES}])\.|(?<=[{_UNCASED}]{{2}})\.)$"
)
_INFIX = regex.compile(
    rf"\.\.+|…|\p{{So}}|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[{_LOWER}{_QUOTES}])\.(?=[{_UNCASED}{_QUOTES}])"
    rf"|(?<=[{_ALPHA}]),(?=[{_ALPHA}])|(?<=[{_ALPHA}0-9])(?:-|–|—|--|——|~)(?=[{_ALPHA}])"
    rf"|(?<=[{_ALPHA}0-9])[:<>=](?=[{_ALPHA}])"
)
# No suffix but a row of dots is longer with what has to stand before it.
_SUFFIX_WINDOW = 8
# This matches two sentences without a space between them too: "good.the" is one token for fastai.
_ADDRESS = regex.compile(
    rf"(?:\S+@)?(?:(?:[a-z0-9\u00a1-\uffff][a-z0-9\u00a1-\uffff_-]{{0,62}})?[a-z0-9\u00a1-\uffff]\.)+[{_LOWER}]{{2,63}}"
    rf"(?::[0-9]{{2,5}})?(?:\?\S*)?"
)


def _strip_affixes(word: str, exceptions: Mapping[str, tuple[str, ...]]) -> tuple[list[str], str, list[str]]:
    """Strips prefixes and suffixes from a word, one of each in a round, until an exception or no affix is left."""
    prefixes, suffixes = [], []
    start, end = 0, len(word)

    def is_exception(start: int, end: int) -> bool:
        return end - start <= _LONGEST_EXCEPTION and word[start:end] in exceptions

    while start < end and not is_exception(start, end):
        match = _PREFIX.match(word, start, end)
        inner_start = match.end() if match else start
        if match and is_exception(inner_start, end):
            return [*prefixes, word[start:inner_start]], word[inner_start:end], suffixes[::-1]
        inner_end = end - _suffix_length(word, inner_start, end)
        if inner_end < end and is_exception(start, inner_end):
            return prefixes, word[start:inner_end], [word[inner_end:end], *suffixes[::-1]]
        if (inner_start, inner_end) == (start, end):
            break
        if inner_start > start:
            prefixes.append(word[start:inner_start])
        if inner_end < end:
            suffixes.append(word[inner_end:end])
        start, end = inner_start, inner_end
    return prefixes, word[start:end], suffixes[::-1]


def _suffix_length(word: str, start: int, end: int) -> int:
    """The characters of the suffix of `word[start:end]`, of which what is before `start` is no context."""
    near = max(start, end - _SUFFIX_WINDOW)
    while near > start and word[near] == ".":
        near -= 1
    match = _SUFFIX.search(word[near:end])
    return end - near - match.start() if match else 0


def _split_infixes(word: str) -> list[str]:
    """Splits a word before and after each infix but one at the very start."""
    tokens, start = [], 0
    for match in _INFIX.finditer(word):
        if match.start() == 0:
            continue
        if match.start() > start:
            tokens.append(word[start : match.start()])
        tokens.append(match.group())
        start = match.end()
    return [*tokens, word[start:]] if start < len(word) else tokens


def _split_by_steps(word: str, exceptions: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Splits a word by all steps but the last, which restores exceptions."""
    prefixes, middle, suffixes = _strip_affixes(word, exceptions)
    if middle in exceptions:
        inner = exceptions[middle]
    elif _ADDRESS.fullmatch(middle):
        inner = (middle,)
    else:
        inner = _split_infixes(middle)
    return (*prefixes, *inner, *suffixes)


# The pieces into which the steps split an exception that they do not see, such as ":", ")" in "great:)".
_SPLIT_EXCEPTIONS: dict[tuple[str, ...], tuple[str, ...]] = {
    pieces: tokens for word, tokens in EXCEPTIONS.items() if len(pieces := _split_by_steps(word, {})) > 1
}
_FIRST_PIECES = {pieces[0] for pieces in _SPLIT_EXCEPTIONS}
_MOST_PIECES = max(map(len, _SPLIT_EXCEPTIONS))


def _restore_exceptions(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Restores split exceptions that do not overlap: the longest first, then the leftmost."""
    joined: dict[int, tuple[int, tuple[str, ...]]] = {}
    seen: set[int] = set()
    for size in range(min(_MOST_PIECES, len(tokens)), 1, -1):
        for start in range(len(tokens) - size + 1):
            if tokens[start : start + size] in _SPLIT_EXCEPTIONS:
                if start not in seen and start + size - 1 not in seen:
                    joined[start] = (start + size, _SPLIT_EXCEPTIONS[tokens[start : start + size]])
                seen.update(range(start, start + size))
    result, start = [], 0
    while start < len(tokens):
        start, new = joined.get(start, (start + 1, tokens[start : start + 1]))
        result.extend(new)
    return tuple(result)


# Nine of ten words have this form, in which letters form a word, every other character is a token, and no part belongs
# to an exception.
_PLAIN = re.compile(r"""[("']?(?:[a-z]+|[0-9]+)(?:-[a-z]+)*(?:'s)?(?:\.?[,!?)"']?|[,!?)"']\.|[,!?)"]{2}|[;:])""")
_PIECES = re.compile(r"[a-z]+|[0-9]+|(?<=[a-z0-9])'s(?![a-z])|.")
_EXCEPTIONAL = frozenset(re.findall(r"[a-z]+|[0-9]+", " ".join(EXCEPTIONS)))


def split_word(word: str) -> tuple[str, ...]:
    """Splits a lower-cased run of non-space characters into words and punctuation.

    The joined tokens are the run again.

    Examples:
        >>> split_word("(don't!)")
        ('(', 'do', "n't", '!', ')')
        >>> split_word("well-made:)")
        ('well', '-', 'made', ':)')
    """
    if _PLAIN.fullmatch(word) and _EXCEPTIONAL.isdisjoint(pieces := _PIECES.findall(word)):
        return tuple(pieces)
    tokens = _split_by_steps(word, EXCEPTIONS)
    return tokens if len(tokens) == 1 or _FIRST_PIECES.isdisjoint(tokens) else _restore_exceptions(tokens)
