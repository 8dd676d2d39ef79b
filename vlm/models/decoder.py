"""Answers in words: a causal Mamba that has read the fused words and frames goes on with the answer, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.interaction import Fused
from vlm.ssm.packed import Packing
from vlm.ssm.stack import MixerConfig, StackConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """A decoder over the text tower's own tokens.

    Attributes:
        width: of the fused tokens. summary_size: of the summary (heads.Summary) that an answer begins with.
        vocabulary_size: of the tokenizer. start, end: its tokens that open and close a text.
        num_layers, d_state, dropout: of the causal Mamba stack.
    """

    width: int
    summary_size: int
    vocabulary_size: int
    start: int
    end: int
    num_layers: int = 2
    d_state: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) < self.vocabulary_size:
                raise InputError(f"{name} must be a token of the {self.vocabulary_size} there are, got {getattr(self, name)}")


class AnswerDecoder(nn.Module):
    """What is said next, given the fused frames and words and what has been said.

    The memory of a video is a state of fixed size, however long the video: each further token costs the same. An answer begins with the
    summary, which holds the frames where the question is grounded.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary_size, config.width)
        self.begin = nn.Linear(config.summary_size, config.width)
        mixer = MixerConfig("mamba", config.width, d_state=config.d_state)
        self.stack = StackConfig(mixer, config.num_layers, dropout=config.dropout).build()
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, fused: Fused, summary: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Logits (b, q, words) of each token of the answer before it is seen.

        Args:
            summary: (b, summary_size) of the same pass.
            tokens: (b, q) int64, the answer without its start, ending in ``end``. mask: (b, q) bool, True for a token.
        """
        memory, real = _memory(fused)
        said = torch.cat([torch.full_like(tokens[:, :1], self.config.start), tokens[:, :-1]], dim=1)
        words = self.embed(said).to(memory.dtype)
        words = torch.cat([words[:, :1] + self.begin(summary)[:, None].to(memory.dtype), words[:, 1:]], dim=1)
        x = torch.cat([memory, words], dim=1)
        out = self.stack(x, torch.cat([real, mask], dim=1))
        return self._logits(out[:, memory.shape[1] :])

    @torch.inference_mode()
    def probability(self, fused: Fused, summary: Tensor, tokens: Tensor) -> Tensor:
        """The probability (b,) of saying ``tokens`` (b, q), each answer as long as the others and ending in ``end``."""
        logits = self(fused, summary, tokens, torch.ones_like(tokens, dtype=torch.bool))
        found: Tensor = logits.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0].sum(dim=1).exp()
        return found

    @torch.inference_mode()
    def generate(self, fused: Fused, summary: Tensor, *, most_tokens: int = 16) -> tuple[Tensor, Tensor]:
        """The likeliest token after the other: tokens (b, q) int64, ``end`` from there on, and the probability (b,) of the whole answer.

        Raises:
            InputError: ``most_tokens`` is below 1.
        """
        if most_tokens < 1:
            raise InputError(f"most_tokens must be at least 1, got {most_tokens}")
        memory, real = _memory(fused)
        packing = Packing.of_mask(real)
        _, states = self.stack.forward_on(packing.pack(memory), self.stack.init_state(len(memory)), cu_seqlens=packing.cu_seqlens)
        token = torch.full((len(memory),), self.config.start, device=memory.device)
        word = self.embed(token).to(memory.dtype) + self.begin(summary).to(memory.dtype)
        is_done, log_probability, said = torch.zeros_like(token, dtype=torch.bool), memory.new_zeros(len(memory)), []
        for _ in range(most_tokens):
            out, states = self.stack.step(word, states)
            best, token = self._logits(out).log_softmax(dim=-1).max(dim=-1)
            log_probability = log_probability + best.masked_fill(is_done, 0.0)
            token = token.masked_fill(is_done, self.config.end)
            word = self.embed(token).to(memory.dtype)
            said.append(token)
            is_done = is_done | (token == self.config.end)
            if bool(is_done.all()):
                break
        return torch.stack(said, dim=1), log_probability.exp()

    def _logits(self, out: Tensor) -> Tensor:
        logits: Tensor = (out @ self.embed.weight.to(out.dtype).T).float()
        return logits


def _memory(fused: Fused) -> tuple[Tensor, Tensor]:
    """What is read before the answer: the frames, then the question, which so is fresh in memory."""
    return torch.cat([fused.video, fused.text], dim=1), torch.cat([fused.video_mask, fused.text_mask], dim=1)
