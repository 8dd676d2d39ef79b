"""BLEU of sacrebleu and METEOR of nltk: the one file that knows of the two libraries, which the extra ``captions`` brings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from vlm.errors import BackendUnavailable

Sentences = Sequence[Sequence[str]]


def bleu4(made: Sentences, known: Sequence[Sentences]) -> float:
    """BLEU-4 of all sentences together, in [0, 1] (Papineni et al. 2002): references of the nearest length; 0 where no four words agree.

    Args:
        made: words of each sentence. known: words of each of its references.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise _missing("sacrebleu") from error
    most = max(map(len, known))
    columns: Any = [[" ".join(some[place]) if place < len(some) else None for some in known] for place in range(most)]
    scorer = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(scorer.corpus_score([" ".join(words) for words in made], columns).score) / 100


def meteor(made: Sequence[str], known: Sentences) -> float:
    """METEOR (Banerjee and Lavie 2005) against the best of the references, by equal words and equal stems, in [0, 1]."""
    try:
        from nltk.translate.meteor_score import meteor_score
    except ImportError as error:
        raise _missing("nltk") from error
    return float(meteor_score([list(words) for words in known], list(made), stemmer=_stems(), wordnet=_NoSynonyms()))


class _NoSynonyms:
    """A WordNet in which no word is of another's kind."""

    def synsets(self, word: str) -> Iterable[Any]:
        """None."""
        return ()


@cache
def _stems() -> Any:
    """Porter's stemmer, which looks for the stem of a word once."""
    from nltk.stem.porter import PorterStemmer

    stems = PorterStemmer()
    stems.stem = lru_cache(maxsize=20_000)(stems.stem)
    return stems


def _missing(package: str) -> BackendUnavailable:
    return BackendUnavailable(f"figures of captions need the package {package}: pip install 'vlm-retrieval[captions]'")
