"""Whom the pipeline never hears in training: everybody in `tests/data/conversations` whom its card calls unknown.

LibriSpeech's readers are named in `models.training.corpus.librispeech`.
"""

from models.training.corpus.voices import HELD_OUT_VARIANTS, VARIANTS

CONVERSATION_VARIANTS = ("Alicia", "benjamin", "f2", "klatt4", "m3", "steph3")
"""espeak-ng's in the conversations. flite's four and espeak-ng's plain voices are there, too: none of them is used."""

TRAINING_VARIANTS = tuple(name for name in VARIANTS if name not in {*CONVERSATION_VARIANTS, *HELD_OUT_VARIANTS})

HELD_OUT_PARTICIPANTS = frozenset({"FEO070", "FEO072", "MEE009", "MEE012", "MEE071", "MEE073"})
"""Of the AMI Meeting Corpus, in the excerpts that are named by its development and test sets."""

HELD_OUT_MEETINGS = ("dev", "tst")
"""How the names of these excerpts begin."""
