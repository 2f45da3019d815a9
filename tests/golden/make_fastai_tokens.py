r"""Writes fastai_tokens.json: what fastai's default rules and word tokenizer make of the sentences here, and digests of
what they make of 300 test reviews of IMDB. Needs fastai and spaCy, not jaxft:

    python tests/golden/make_fastai_tokens.py aclImdb_v1.tar.gz
"""

import hashlib
import json
import re
import sys
import tarfile
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from fastai.text.core import TokenizeWithRules, WordTokenizer  # pyright: ignore[reportMissingImports]

SENTENCES = [
    "",
    "   ",
    "The Film was GREAT, and I loved it!",
    "A B C I. We saw it at 5pm, not 11 a.m. as Mr. Smith and Dr. O'Hara said.",
    "Don't, can't, won't, shan't, isn't, ain't; they're, I'm, you've, he'd've, it's, who'll, y'all.",
    "Dont cant wont isnt theyre Im youve its ill well were id shell hell.",
    "DON'T GO. It IS what It Is, McDonald of the USA and the U.S.A. agree.",
    "Cannot wait; gonna go, gotta run, let's see, c'mon, o'clock, ma'am, 'cause, 'em, rock 'n' roll.",
    "He’s sure we’re “quoted” — and ‘curly’, isn’t it’s best part’s fault?",
    "Line one.<br /><br />Line two.<br />Line three.<br /> <br /> Last one<br />",
    "<br /><br />Starts late. Ends soon.\n\n  \n",
    "Tabs\tand\r\nreturns\x0b and  two   spaces \n here.\x85There\xa0too\u2003wide",
    "Soooo goooood!!! Really??? Hmm..... no...... ---- *** ===== 1000000 $$$ aaa.bbb",
    "no no no, very very very good. had had it; that that that. Ha ha ha ha! 4444 4 four.",
    "NO NO NO. No no no no\nno. a a a a. it's it's it's. bye-bye bye-bye bye-bye",
    "zzz z z, !!!no no no, 4444 4 444 4",
    "and/or w/o 10/10 and #1 with C:\\temp \\o/ http://www.example.com/a?b=c#d",
    "www.example.com, me@example.org! Ends.Without space.The next.one e.g. this,that:other",
    "well-made, state-of-the-art, ex-2, 2-x, 9-11, 1990s-era, -dash dash- --both-- a--b a---b semi–en—em~tilde",
    "Rated 8.5/10, costs $5.99 or 10% off, £20m, 5kg of 3km, 6ft 2in tall, 10am-5pm, 70's '80s 3D 4x4 1,000,000",
    "Smile :) :-) ;) :( :-( :D =) great:) (fun) :-P :o) <3 ^_^ o_O -_- xD :/ (: 8) (-: :'( great:-) bad:-(.",
    'She said "No way." Then: "Yes!" (He left (early).) [sic] {brace} <tag> *star* &amp; &lt;b&gt; &quot;q&quot;',
    'Tom &amp; Jerry&#39;s, #39;quoted#39;, nbsp;space, caf&eacute; &copy; 1999 <unk> 3 @.@ 5 well @-@ known \\"esc\\"',
    "Naïve café Élan ÉCOLE Über straße ÑANDÚ crème-brûlée fiancée's Zoë. ΑΣ Σ ΟΔΟΣ. Привет МИР",
    "日本語 テスト。 한국어, עברית العربية हिन्दी. mixed日本語mixed a日-b 日.日 x",
    "emoji 😀😀 fun😀times ☺. ★★★ ©2001 25°C 30 °c. half½ x² m² 5m² µm 10µm ª º",
    "''double'' 'single' 'tis 'twas dogs' bones' James's '90s o' of' d'oh l'amour rock'n'roll get'em",
    "(I). (a.) b. c.d. x-a. a.b a.m. p.m. vs. v.s. etc. i.e. E.G. Ph.D. St. Inc. co. Jr.",
    "What's that? Who's he? There'd've been. how'd'y not've might've shouldn't've",
    "a,b a,B 1,2 1+1 2*3 2^3 5-3 -5 +5 5+ + ++ C++ a=b a<b>c a:b 10:30 x:1",
    "!? ?! ... .. . , ; : … …and so…on ……",
    "word, word. word! word? word; word: (word) \"word\" 'word' word's words' [word] word... word-",
    "Word, WORD. Word-Word WORD-WORD wOrD (Word) \"WORD\" WORD's Word's WORD! W A.",
    "xxbos xxunk xxmaj xxrep 3 xxwrep literal tokens, XXBOS",
    "$5 US$5 €5,00 5€ 5£ 5% %5 =5 §5 @you #tag you@ 50/50 1/2 A/B",
    'great.the end,of(it)all right)here "quoted"word word"quoted" a\'b\'c',
    ".hidden ..two ,comma 'quote -minus _under *star @at ~tilde `tick ^hat |bar",
    "hidden. two.. comma, quote' minus- under_ star* at@ tilde~ tick` hat^ bar| em— en–",
    "end.\" end.' end?) end!\" end;) end). end', end\". end'. end.. end., it's. it's, vs., co.,",
    "scooby's 'scooby' 'sense and 'shooting' the 's 's. 'S 'll 'd 'em' 'nuff",
    "1st 2nd 3rd 21st 1980's 1980s '80's 20th-century mid-1990's 12:30pm 1pm. 12am, 13pm 0pm 3 p.m.",
    "1.5 .5 5. 1.2.3.4 192.168.0.1 v1.2b 3.14, 2.0! 1990. 100.000,00 1,5",
]


def digest(text: str) -> str:
    """Eight bytes in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def test_reviews(archive: str) -> list[str]:
    """Every 83rd of the 25,000 test reviews in the archive's order, 300 in all."""
    with tarfile.open(archive, "r|*") as tar:
        reviews = (member for member in tar if re.fullmatch(r"aclImdb/test/(pos|neg)/.*\.txt", member.name))
        files = (tar.extractfile(member) for member in islice(reviews, 0, 83 * 300, 83))
        return [file.read().decode("utf-8") for file in files if file]


def main() -> None:
    """Writes the file beside this script."""
    tokenize = TokenizeWithRules(WordTokenizer())
    reviews = test_reviews(sys.argv[1])
    golden = {
        "versions": {name: version(name) for name in ("fastai", "spacy")},
        "sentences": [[text, list(tokens)] for text, tokens in zip(SENTENCES, tokenize(SENTENCES), strict=True)],
        "reviews": {
            digest(text): [len(tokens), digest(" ".join(tokens))]
            for text, tokens in zip(reviews, tokenize(reviews), strict=True)
        },
    }
    Path(__file__).with_name("fastai_tokens.json").write_text(json.dumps(golden, indent=0))


if __name__ == "__main__":
    main()
