"""Pocket's tokenizer: whole words of Toybox's language, and pieces for all other words. No random choice, no file but the vocabulary.

Sub-words are found by greedy longest match from the left (WordPiece: Schuster and Nakajima 2012, "Japanese and Korean voice search").
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vlm.errors import InputError

PAD, UNKNOWN, START, END = range(4)
SPECIAL = ("[pad]", "[unknown]", "[start]", "[end]")
CONTINUED = "##"
MOST_ENTRIES = 4000
# Endings and beginnings of English, so that unknown words fall into few pieces.
PIECES = (
    *("ing", "ed", "er", "est", "es", "ly", "tion", "ness", "ment", "able", "al", "ous", "ive", "ish", "th", "ch", "sh", "ck", "st", "nd"),
    *("ng", "nt", "an", "en", "in", "on", "or", "ar", "at", "it", "is", "us", "ou", "ee", "oo", "ea", "ai", "le", "el", "ll", "re", "ro"),
    *("un", "dis", "pre", "over", "out", "up", "sub", "inter", "co", "con", "de", "ex", "im"),
)
# Marks that stand right behind the word before them.
CLOSING = frozenset(",.?!:;)")
# Marks that stand between the parts of a word, without spaces.
JOINING = frozenset("-'/")
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


class PocketTokenizer:
    """Texts to token ids: ``[start] pieces [end]``, padded with ``[pad]`` to ``context`` or cut so that ``[end]`` stays last.

    Raises:
        InputError: the vocabulary does not begin with the four special entries, names one twice, or is too large.
    """

    def __init__(self, vocabulary: Sequence[str], *, context: int) -> None:
        if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
            raise InputError(f"a vocabulary begins with {', '.join(SPECIAL)}, got {list(vocabulary[: len(SPECIAL)])}")
        if len(vocabulary) > MOST_ENTRIES or len(set(vocabulary)) != len(vocabulary):
            raise InputError(f"a vocabulary holds at most {MOST_ENTRIES} different entries, got {len(vocabulary)}")
        if context < 3:
            raise InputError(f"context must hold [start], a piece and [end], got {context}")
        self.vocabulary = tuple(vocabulary)
        self.context = context
        self._ids = {entry: number for number, entry in enumerate(vocabulary)}
        self._longest = max(len(entry) for entry in vocabulary)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, context) int64."""
        rows = [[START, *self._pieces(text)[: self.context - 2], END] for text in texts]
        return torch.tensor([row + [PAD] * (self.context - len(row)) for row in rows], dtype=torch.int64).view(len(rows), self.context)

    def num_tokens(self, text: str) -> int:
        """How many tokens the whole text has, ``[start]`` and ``[end]`` included."""
        return len(self._pieces(text)) + 2

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return len(self.vocabulary)

    @property
    def start(self) -> int:
        """The token before a text."""
        return START

    @property
    def end(self) -> int:
        """The token behind a text."""
        return END

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, whole, without start and end."""
        return self._pieces(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The lower-case text of tokens; special tokens but ``[unknown]`` say nothing."""
        text, before = "", ""
        for token in tokens:
            entry = self.vocabulary[token]
            if token in (PAD, START, END):
                continue
            joined = entry.startswith(CONTINUED) or entry in CLOSING | JOINING or before in JOINING or not text
            text += entry.removeprefix(CONTINUED) if joined else f" {entry}"
            before = entry
        return text

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """The words that are not whole in the vocabulary, each once, in order: they are read in pieces that training gave no meaning."""
        found = {word: None for text in texts for word in split_words(text) if word not in self._ids and any(map(str.isalnum, word))}
        return list(found)

    def _pieces(self, text: str) -> list[int]:
        return [piece for word in split_words(text) for piece in self._word_pieces(word)]

    def _word_pieces(self, word: str) -> list[int]:
        if word in self._ids:
            return [self._ids[word]]
        pieces: list[int] = []
        at = 0
        while at < len(word):
            mark = CONTINUED if at else ""
            for end in range(min(len(word), at + self._longest), at, -1):
                if (piece := self._ids.get(mark + word[at:end])) is not None:
                    break
            else:
                end, piece = at + 1, UNKNOWN
            pieces.append(piece)
            at = end
        return pieces


def split_words(text: str) -> list[str]:
    """Lower-case words, digits and single marks of a text. Accents are taken off, so that ``café`` is made of known letters."""
    text = text.lower()
    if text.isascii():
        return _WORD.findall(text)
    plain = unicodedata.normalize("NFKD", text)
    return _WORD.findall("".join(letter for letter in plain if not unicodedata.combining(letter)))


def build_vocabulary(words: Iterable[str]) -> list[str]:
    """The vocabulary for these words: special entries, the words in order, then letters and pieces that begin or continue a word."""
    whole = sorted({part for word in words for part in split_words(word)})
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(CONTINUED + letter for letter in letters), *string.punctuation]
    pieces += [*PIECES, *(CONTINUED + piece for piece in PIECES)]
    return list(dict.fromkeys([*SPECIAL, *whole, *pieces]))
