"""Sentences of events: a causal Mamba that is told the event at every word, and looks at its rows before the next one.

PDVC's caption head is an LSTM that looks at the event's rows at every word (Wang et al. 2021, arXiv 2108.07781); here the words are carried
by the causal Mamba blocks of ``vlm.ssm``, whose state has a fixed size, so that each further word costs the same.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.ssm.stack import Layer, MixerConfig
from vlm.ssm.state import MambaState

# How large logits are before anything is learnt, beside what is usual.
SMALL = 0.25


class EventTeller(nn.Module):
    """What is said next of an event, given its query, its rows, and what has been said.

    Args:
        width: of queries and rows. vocabulary_size: of the tokens; start, end: those that open and close a sentence.
        num_layers: each a causal Mamba and a look at the rows. num_heads: of that look.
    """

    def __init__(
        self, width: int, *, vocabulary_size: int, start: int, end: int, num_layers: int, num_heads: int, d_state: int, dropout: float
    ) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.embed = nn.Embedding(vocabulary_size, width)
        self.begin = nn.Linear(width, width)
        mixer = MixerConfig("mamba", width, d_state=d_state)
        self.layers = nn.ModuleList(
            [_TellerLayer(Layer(width, mixer.build(), dropout=dropout), width, num_heads) for _ in range(num_layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.mention = nn.Linear(width, width)
        self.usual = nn.Parameter(torch.zeros(vocabulary_size))
        nn.init.normal_(self.embed.weight, std=SMALL * width**-0.5)

    def learn_usual(self, counts: Tensor) -> None:
        """Begin with how often each token (words) is said: what an event changes of that is learnt at once, and not behind it."""
        with torch.no_grad():
            self.usual.copy_(((counts + 0.1) / (counts + 0.1).sum()).log())

    def forward(self, rows: Tensor, queries: Tensor, tokens: Tensor) -> Tensor:
        """Logits (e, q, words) of each token of the sentences before it is seen.

        Args:
            rows: (e, k, width) of each event. queries: (e, width). tokens: (e, q) int64, without the start; what stands behind the end of a
                sentence changes nothing before it.
        """
        said = torch.cat([torch.full_like(tokens[:, :1], self.start), tokens[:, :-1]], dim=1)
        x = self._word(said) + self.begin(queries)[:, None]
        for layer in self.layers:
            x = layer(x, rows)
        return self._logits(x)

    def mentions(self, queries: Tensor) -> Tensor:
        """Logits (e, words) of each token standing anywhere in what is told of queries (e, width)."""
        logits: Tensor = (self.mention(queries) @ self.embed.weight.T + self.usual).float()
        return logits

    @torch.inference_mode()
    def tell(self, rows: Tensor, queries: Tensor, *, most_tokens: int) -> tuple[Tensor, Tensor]:
        """The likeliest token after the other: tokens (e, q) int64, ``end`` from there on, and the probability (e) of the whole sentence.

        A sentence does not end before it has begun.

        Raises:
            InputError: ``most_tokens`` is below 1.
        """
        if most_tokens < 1:
            raise InputError(f"most_tokens must be at least 1, got {most_tokens}")
        token = torch.full((len(rows),), self.start, device=rows.device)
        layers = cast(list[_TellerLayer], list(self.layers))
        states = [layer.init_state(len(rows)) for layer in layers]
        about = self.begin(queries)
        is_done, log_probability = torch.zeros_like(token, dtype=torch.bool), rows.new_zeros(len(rows))
        said: list[Tensor] = []
        for _ in range(most_tokens):
            x = self._word(token) + about
            for number, layer in enumerate(layers):
                x, states[number] = layer.step(x, rows, states[number])
            logits = self._logits(x)
            if not said:
                logits[:, self.end] = -torch.inf
            best, token = logits.log_softmax(dim=-1).max(dim=-1)
            log_probability = log_probability + best.masked_fill(is_done, 0.0)
            token = token.masked_fill(is_done, self.end)
            said.append(token)
            is_done = is_done | (token == self.end)
            if bool(is_done.all()):
                break
        return torch.stack(said, dim=1), log_probability.exp()

    def _word(self, tokens: Tensor) -> Tensor:
        # As large as what is told of the event beside it, which else drowns the words.
        word: Tensor = self.embed(tokens) * (self.embed.embedding_dim**0.5 / SMALL)
        return word

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = (self.norm(x) @ self.embed.weight.T + self.usual).float()
        return logits


class _TellerLayer(nn.Module):
    """A causal Mamba along the words, then attention of each word to the rows of its event."""

    def __init__(self, layer: Layer, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise InputError(f"width must be a multiple of num_heads, got width={width}, num_heads={num_heads}")
        self.layer, self.heads = layer, num_heads
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, width, bias=False)
        self.held = nn.Linear(width, 2 * width, bias=False)
        self.take = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        return self._look(self.layer(x), rows)

    def init_state(self, batch: int) -> MambaState:
        """The state before the first word of so many sentences."""
        return self.layer.streaming_mixer().init_state(batch)

    def step(self, x: Tensor, rows: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """The next word (e, width) of each sentence, and the state after it."""
        x, state = self.layer.step(x, state)
        return self._look(x[:, None], rows)[:, 0], state

    def _look(self, x: Tensor, rows: Tensor) -> Tensor:
        ask = self.ask(self.norm(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        keys, values = self.held(rows).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(ask, keys, values)
        taken: Tensor = x + self.take(found.transpose(1, 2).flatten(2))
        return taken
