"""Scripts that are written without spaces between words."""

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ"
"""their characters, for a set of the package `regex`"""
