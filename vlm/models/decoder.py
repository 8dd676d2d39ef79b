"""Answers in words: a causal Mamba that has read the question and its evidence goes on with the answer, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.heads import LOOKS, Evidence
from vlm.models.interaction import Fused
from vlm.ssm.packed import Packing
from vlm.ssm.stack import MixerConfig, StackConfig

# Of the numbers of a track few say what it does, and they are near 0 or 1, where others spread.
ACTS_SCALE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """A decoder over the text tower's own tokens.

    Attributes:
        width: of the fused tokens. summary_size: of the summary (heads.Summary) that an answer begins with.
        tracks, thing_size: how many tracks a frame has, 0 for none, and how many numbers are told of each (InteractionConfig.thing_size);
            slots, acts: how many of these, the last ones, say how far each slot finds it, and what it does.
        vocabulary_size: of the tokenizer. start, end: its tokens that open and close a text.
        num_layers, d_state, dropout: of the causal Mamba stack.
    """

    width: int
    summary_size: int
    vocabulary_size: int
    start: int
    end: int
    tracks: int = 0
    thing_size: int = 0
    slots: int = 0
    acts: int = 0
    num_layers: int = 2
    d_state: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) < self.vocabulary_size:
                raise InputError(f"{name} must be a token of the {self.vocabulary_size} there are, got {getattr(self, name)}")


class AnswerDecoder(nn.Module):
    """What is said next, given the question, its evidence, and what has been said.

    Of a video it reads the looks at its evidence alone (heads.Evidence): of each the mean frame, every track by itself, so that who does
    something is said by which track it is, what by what the track holds, and each is learnt once and not once for each pair; and again the
    tracks that each slot finds, and those that do anything, which nothing along a sequence picks out of eight. An answer so costs the same
    however long the video is. It begins with the summary.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary_size, config.width)
        self.begin = nn.Linear(config.summary_size, config.width)
        self.look = nn.Parameter(torch.randn(LOOKS, 1, config.width) * 0.02)
        self.track = None
        if config.tracks:
            self.track = nn.Sequential(nn.Linear(config.thing_size, config.width), nn.GELU(), nn.Linear(config.width, config.width))
        self.which = nn.Parameter(torch.randn(config.tracks, config.width) * config.width**-0.5)
        self.picked = nn.Parameter(torch.randn(config.slots + bool(config.acts), config.width) * 0.02)
        mixer = MixerConfig("mamba", config.width, d_state=config.d_state)
        self.stack = StackConfig(mixer, config.num_layers, dropout=config.dropout).build()
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(
        self, fused: Fused, evidence: Evidence, summary: Tensor, tokens: Tensor, mask: Tensor, withheld: Tensor | None = None
    ) -> Tensor:
        """Logits (b, q, words) of each token of the answer before it is seen.

        Args:
            evidence: of the same pass. summary: (b, summary_size) of it.
            tokens: (b, q) int64, the answer without its start, ending in ``end``. mask: (b, q) bool, True for a token.
            withheld: (b, q) bool, tokens that those after them are not told, so that they are said by what is seen and not by the words
                that mostly go together (word dropout, Bowman et al. 2016, arXiv 1511.06349); None for none.
        """
        memory, real = self._memory(fused, evidence)
        said = torch.cat([torch.full_like(tokens[:, :1], self.config.start), tokens[:, :-1]], dim=1)
        words = self.embed(said).to(memory.dtype)
        if withheld is not None:
            words = torch.cat([words[:, :1], words[:, 1:].masked_fill(withheld[:, :-1, None], 0.0)], dim=1)
        words = torch.cat([words[:, :1] + self.begin(summary)[:, None].to(memory.dtype), words[:, 1:]], dim=1)
        x = torch.cat([memory, words], dim=1)
        out = self.stack(x, torch.cat([real, mask], dim=1))
        return self._logits(out[:, memory.shape[1] :])

    @torch.inference_mode()
    def probability(self, fused: Fused, evidence: Evidence, summary: Tensor, tokens: Tensor) -> Tensor:
        """The probability (b,) of saying ``tokens`` (b, q), each answer as long as the others and ending in ``end``."""
        logits = self(fused, evidence, summary, tokens, torch.ones_like(tokens, dtype=torch.bool))
        found: Tensor = logits.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0].sum(dim=1).exp()
        return found

    @torch.inference_mode()
    def generate(self, fused: Fused, evidence: Evidence, summary: Tensor, *, most_tokens: int = 16) -> tuple[Tensor, Tensor]:
        """The likeliest token after the other: tokens (b, q) int64, ``end`` from there on, and the probability (b,) of the whole answer.

        Raises:
            InputError: ``most_tokens`` is below 1.
        """
        if most_tokens < 1:
            raise InputError(f"most_tokens must be at least 1, got {most_tokens}")
        memory, real = self._memory(fused, evidence)
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

    def _memory(self, fused: Fused, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """What is read before the answer, and its mask: the question, then the looks, of each the frame and the tracks."""
        shares = evidence.shares.to(fused.video)
        looks = torch.einsum("blt,btw->blw", shares, fused.video)[:, :, None]
        if self.track is not None:
            looks = torch.cat([looks, *self._things(self.track, evidence.things)], dim=2)
        looks = looks + self.look
        is_held = (shares.sum(dim=2, keepdim=True) > 0).expand(-1, -1, looks.shape[2])
        return torch.cat([fused.text, looks.flatten(1, 2)], dim=1), torch.cat([fused.text_mask, is_held.flatten(1)], dim=1)

    def _things(self, track: nn.Module, things: Tensor) -> tuple[Tensor, Tensor]:
        """Of each look every track (b, looks, tracks, width), and those that each slot finds and that do anything (b, looks, n, width)."""
        slots, acts = self.config.slots, self.config.acts
        own, found, done = torch.split(things, [things.shape[-1] - slots - acts, slots, acts], dim=-1)
        each = track(torch.cat([own, found, ACTS_SCALE * done], dim=-1)) + self.which
        shares = torch.cat([found, done.amax(dim=-1, keepdim=True)], dim=-1) if acts else found
        shares = shares.square()
        shares = shares / shares.sum(dim=2, keepdim=True).clamp(min=1e-6)
        return each, shares.transpose(2, 3) @ each + self.picked

    def _logits(self, out: Tensor) -> Tensor:
        logits: Tensor = (out @ self.embed.weight.to(out.dtype).T).float()
        return logits
