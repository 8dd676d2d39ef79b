"""InfoNCE between images and texts, with hard negative texts and without false negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def info_nce(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    *,
    negatives: Tensor | None = None,
    excluded: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """The mean of the image-to-text and the text-to-image cross-entropy of ``scale * cosine``: a scalar, at least 0.

    Radford et al. 2021, "Learning transferable visual models from natural language supervision"; the hard negatives stand among the
    texts only, as in NegCLIP (Yuksekgonul et al. 2023): every image is compared with all of them, no text is compared with more images.

    Args:
        image, text: (n, d) unit vectors; row i of both belong together.
        scale: (,) the inverse temperature.
        negatives: (m, d) unit vectors of texts that belong to no image, whatever image they were made for.
        excluded: (n, n + m) bool over images and texts then negatives: pairs that may be true without being row i's own, and so are no
            negatives. The own pairs are never excluded.
        chunk: images that are compared at a time; the rest of the matrix does not exist, and the backward pass computes it again (as
            GradCache, Gao et al. 2021, for the loss itself). None compares all at once. The value is the same but for rounding.
    """
    if chunk is not None:
        return _in_chunks(image, text, scale, negatives, excluded, chunk)
    n = len(image)
    texts = text if negatives is None else torch.cat([text, negatives])
    similarity = scale * (image @ texts.T)  # (n, n + m)
    if excluded is not None:
        own = torch.eye(n, similarity.shape[1], dtype=torch.bool, device=image.device)
        similarity = similarity.masked_fill(excluded & ~own, -torch.inf)
    target = torch.arange(n, device=image.device)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity[:, :n].T, target)) / 2


def _in_chunks(image: Tensor, text: Tensor, scale: Tensor, negatives: Tensor | None, excluded: Tensor | None, chunk: int) -> Tensor:
    n = len(image)
    texts = text if negatives is None else torch.cat([text, negatives])

    def rows(first: int, part: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of a few images: the logarithm of each row's sum, that of each column's, and the own similarities."""
        similarity = scale * (part @ texts.T)
        number = torch.arange(first, first + len(part), device=part.device)
        if excluded is not None:
            own = number[:, None] == torch.arange(len(texts), device=part.device)
            similarity = similarity.masked_fill(excluded[first : first + len(part)] & ~own, -torch.inf)
        return similarity.logsumexp(dim=1), similarity[:, :n].logsumexp(dim=0), similarity.gather(1, number[:, None])[:, 0]

    parts = []
    for first in range(0, n, chunk):
        found: tuple[Tensor, Tensor, Tensor] = checkpoint(rows, first, image[first : first + chunk], texts, scale, use_reentrant=False)
        parts.append(found)
    by_row, by_column, own = zip(*parts, strict=True)
    columns = torch.stack(by_column).logsumexp(dim=0)
    return ((torch.cat(by_row) + columns) / 2 - torch.cat(own)).mean()
