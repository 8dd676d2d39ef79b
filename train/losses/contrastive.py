"""InfoNCE between images and texts, with hard negative texts and without false negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(image: Tensor, text: Tensor, scale: Tensor, *, negatives: Tensor | None = None, excluded: Tensor | None = None) -> Tensor:
    """The mean of the image-to-text and the text-to-image cross-entropy of ``scale * cosine``: a scalar, at least 0.

    Radford et al. 2021, "Learning transferable visual models from natural language supervision"; the hard negatives stand among the
    texts only, as in NegCLIP (Yuksekgonul et al. 2023): every image is compared with all of them, no text is compared with more images.

    Args:
        image, text: (n, d) unit vectors; row i of both belong together.
        scale: (,) the inverse temperature.
        negatives: (m, d) unit vectors of texts that belong to no image, whatever image they were made for.
        excluded: (n, n + m) bool over images and texts then negatives: pairs that may be true without being row i's own, and so are no
            negatives. The own pairs are never excluded.
    """
    n = len(image)
    texts = text if negatives is None else torch.cat([text, negatives])
    similarity = scale * (image @ texts.T)  # (n, n + m)
    if excluded is not None:
        own = torch.eye(n, similarity.shape[1], dtype=torch.bool, device=image.device)
        similarity = similarity.masked_fill(excluded & ~own, -torch.inf)
    target = torch.arange(n, device=image.device)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity[:, :n].T, target)) / 2
