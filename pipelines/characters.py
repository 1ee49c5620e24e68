"""Which characters belong together, in scripts that write no spaces between words."""

import re
from unicodedata import category

BEFORE_ITS_LETTER = re.compile("[\u0e40-\u0e44\u0ec0-\u0ec4\u1039\u17d2]")
"""Vowels of Thai and Lao that are written first, and what joins two letters of Burmese and of Khmer."""
BEHIND_ITS_LETTER = re.compile("[\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ec6\u200c\u200d]")
"""Vowels and signs of repetition that are no marks by Unicode, and joiners."""


def may_part(left: str, right: str) -> bool:
    """Whether a text may be cut between two characters: a mark, such as a tone or a vowel, stays with its letter."""
    is_bound = category(right).startswith("M") or BEHIND_ITS_LETTER.match(right) or BEFORE_ITS_LETTER.match(left)
    return not is_bound
