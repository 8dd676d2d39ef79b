"""Text towers of open_clip as (n, q) token ids -> pooled (n, d), per token (n, q, d), mask (n, q): projected, not normalised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def text_tower(model: Any, pad_id: int) -> nn.Module:
    """The text side of any open_clip model; ``pad_id`` is what its tokenizer fills up with."""
    text = getattr(model, "text", model)
    if hasattr(text, "pooler"):
        return BorrowedText(text)
    if getattr(text, "cls_emb", None) is not None:
        return AppendedClassText(text)
    if text is model:
        return TransformerText(text, pool=text.text_pool_type, end_id=text.text_eos_id, pad_id=pad_id)
    return TransformerText(text, pool=text.pool_type, end_id=text.eos_id, pad_id=pad_id)


class TransformerText(nn.Module):
    """open_clip's text transformer. A causal one runs only up to the last end-of-text token of the batch: what follows cannot be seen
    by what is pooled."""

    def __init__(self, tower: Any, *, pool: str, end_id: int, pad_id: int) -> None:
        super().__init__()
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", tower.attn_mask, persistent=False)
        self._pool, self._end_id, self._pad_id = pool, end_id, pad_id

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (n, d), per token (n, q, d), mask (n, q)."""
        rows = torch.arange(len(tokens), device=tokens.device)
        ends = self._pooled_at(tokens)
        by_end = self._pool in ("argmax", "eos")
        if by_end and self.attn_mask is not None:
            tokens = tokens[:, : int(ends.max()) + 1]
        length = tokens.shape[1]
        dtype = self.transformer.get_cast_dtype()
        x = self.token_embedding(tokens).to(dtype) + self.positional_embedding[:length].to(dtype)
        x = self.transformer(x, attn_mask=None if self.attn_mask is None else self.attn_mask[:length, :length])
        x = self._project(self.ln_final(x))  # (n, q, d)
        mask = torch.arange(length, device=tokens.device) <= ends[:, None] if by_end else tokens != self._pad_id
        mask[:, 0] = True
        return x[rows, ends], x, mask

    def _pooled_at(self, tokens: Tensor) -> Tensor:
        """Positions (n,) of the token that stands for the text."""
        if self._pool == "argmax":  # the end-of-text token has the highest id
            return tokens.argmax(dim=1)
        if self._pool == "eos":
            return (tokens == self._end_id).int().argmax(dim=1)
        return tokens.new_full((len(tokens),), 0 if self._pool == "first" else tokens.shape[1] - 1)

    def _project(self, x: Tensor) -> Tensor:
        if self.text_projection is None:
            return x
        projected: Tensor = self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection
        return projected


class AppendedClassText(nn.Module):
    """CoCa's text tower: a class token behind the text is pooled, so the whole context is run."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (n, d), per token (n, q, d), mask (n, q)."""
        pooled, states = self.tower(tokens)
        per_token = self.tower.ln_final(states) @ self.tower.text_projection  # (n, q, d)
        mask = tokens != self.tower.pad_id
        mask[:, 0] = True
        return pooled, per_token, mask


class BorrowedText(nn.Module):
    """A text model of transformers inside an open_clip model."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (n, d), per token (n, q, d), mask (n, q)."""
        mask = tokens != self.tower.config.pad_token_id
        states = self.tower.transformer(input_ids=tokens, attention_mask=mask.long())
        pooled: Tensor = self.tower.proj(self.tower.pooler(states, mask.long()))
        return pooled, self.tower.proj(states.last_hidden_state), mask
