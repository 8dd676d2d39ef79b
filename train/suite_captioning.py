"""Learning to find and to tell events: PDVC-Mamba before videos whose events are told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlm.models.suite.captioning import EventCaptioner, Seen
from vlm.models.suite.events import Places
from vlm.models.suite.sentences import rows_of_seconds
from vlm.train.losses.answers import decoder_loss, mention_loss
from vlm.train.losses.events import event_loss
from vlm.train.ranks import weights_of_means
from vlm.train.suite import Batch, SuiteSource, Task, some_videos
from vlm.train.suite_data import SuiteDataConfig
from vlm.train.suite_sentences import ToldStretch, ToldVideos, file_sentences, toybox_sentences, toybox_vocabulary
from vlm.types import Features

# Of an event that a stretch cuts through, the share that must be left for it to count.
LEAST_SHARE = 0.5
# What the sentences weigh beside the events; PDVC's number.
CAPTION = 2.0
# What the words weigh that a query foresees, in any order: from them a query learns what happens before sentences can be told.
MENTION = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ToldTruth:
    """The events of a batch, item after item, and what is told of them, event after event.

    Shapes:
        stretches: (e, 2) starts and ends in rows. counts: (b) int64, how many each item has.
        event: (s) int64, which event each sentence is of. tokens: (s, q) int64, each with its end, and mask: (s, q) bool.
    """

    stretches: Tensor
    counts: Tensor
    event: Tensor
    tokens: Tensor
    mask: Tensor


class CaptioningTraining(nn.Module):
    """A model before batches of videos with what is told of them."""

    def __init__(self, model: EventCaptioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch[ToldTruth]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and its parts."""
        device, truth = self.model.position.device, batch.truth
        stretches, counts = truth.stretches.to(device), truth.counts.to(device)
        given = Places.of(stretches, counts) if self.model.config.segments == "given" else None
        seen = self.model(batch.frames.to(device), batch.mask.to(device), given=given)
        if given is None:
            found, parts, pairs = event_loss(seen.proposed, seen.expected, stretches, counts)
            # Found stretches are never quite the true ones.
            far = self.model.config.shake * (stretches[:, 1] - stretches[:, 0])[:, None]
            stretches = stretches + far * (2 * torch.rand(stretches.shape, device=device) - 1)
            layers = [layer.queries for layer in seen.proposed]
        else:
            every = torch.arange(len(stretches), device=device)
            found, parts, pairs, layers = torch.zeros((), device=device), {}, [(every, every)], [seen.queries]
        truth = ToldTruth(stretches, counts, truth.event.to(device), truth.tokens.to(device), truth.mask.to(device))
        mentions = torch.stack([self._mentions(*one, truth) for one in zip(layers, pairs, strict=True)]).sum()
        told = self._told(seen, pairs[-1], truth)
        return found + MENTION * mentions + CAPTION * told, parts | {"mentions": mentions.detach(), "told": told.detach()}

    def _mentions(self, queries: Tensor, pairs: tuple[Tensor, Tensor], truth: ToldTruth) -> Tensor:
        """The loss of what words the queries that answer for events foresee."""
        chosen, place = _sentences_of(pairs[1], truth.event)
        logits = self.model.teller.mentions(queries[pairs[0]])[place]
        return _weight(len(chosen), queries.device) * mention_loss(logits, truth.tokens[chosen], truth.mask[chosen])

    def _told(self, seen: Seen, pairs: tuple[Tensor, Tensor], truth: ToldTruth) -> Tensor:
        """The loss of the sentences."""
        chosen, place = _sentences_of(pairs[1], truth.event)
        weight = _weight(len(chosen), seen.queries.device)
        if not len(chosen):
            return 0.0 * seen.queries.sum()
        queries, tokens = pairs[0][place], truth.tokens[chosen]
        rows = self.model.told_from(seen.held, seen.item[queries], truth.stretches[pairs[1][place]])
        return weight * decoder_loss(self.model.teller(rows, seen.queries[queries], tokens), tokens, truth.mask[chosen])


def _weight(count: int, device: torch.device) -> float:
    """What a mean over so many must weigh on this rank."""
    return weights_of_means({"told": count}, device).get("told", 0.0)


def _sentences_of(events: Tensor, event_of: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers (s) of all sentences of events (k), ``event_of`` (n) being whose each is; and the place (s) in ``events`` of each."""
    place, chosen = (events[:, None] == event_of).nonzero(as_tuple=True)
    return chosen, place


def told_batches(videos: ToldVideos, data: SuiteDataConfig, model: EventCaptioner, *, seed: int) -> SuiteSource[ToldTruth]:
    """Batches of videos with what is told of them."""
    truth = _Truth(videos.events, model)
    return SuiteSource(videos.features, truth.cut, truth.collate, data, seed)


@dataclass(frozen=True, slots=True)
class _Truth:
    """What is told of videos, as the model's tokens."""

    events: tuple[tuple[ToldStretch, ...], ...]
    model: EventCaptioner

    def cut(self, number: int, first: int, last: int, whole: Features) -> list[tuple[tuple[float, float], tuple[str, ...]]]:
        """The events of rows ``[first, last)``, each with its stretch in those rows and its phrasings."""
        shown = whole.part(first, last)
        start, end = float(whole.times[first]), shown.end + float(whole.times[first])
        found = []
        for event in self.events[number]:
            inside = (max(event.span.start, start), min(event.span.end, end))
            if inside[1] - inside[0] >= LEAST_SHARE * event.span.seconds:
                low, high = rows_of_seconds(np.array(inside) - start, shown)
                if high > low:
                    found.append(((float(low), float(high)), _told_of(event, self.model)))
        return found

    def collate(self, batch: Batch[Any]) -> Batch[ToldTruth]:
        """The batch with its events as tensors."""
        events = [event for of_item in batch.truth for event in of_item]
        tokenizer, most = self.model.tokenizer, self.model.config.most_words
        said = [[*tokenizer.encode(text)[: most - 1], tokenizer.end] for _, texts in events for text in texts]
        event = torch.tensor([number for number, (_, texts) in enumerate(events) for _ in texts], dtype=torch.int64)
        lengths = torch.tensor([len(one) for one in said], dtype=torch.int64)
        longest = int(lengths.max()) if said else 1
        tokens = torch.tensor([one + [tokenizer.end] * (longest - len(one)) for one in said], dtype=torch.int64).view(-1, longest)
        stretches = torch.tensor([stretch for stretch, _ in events], dtype=torch.float32).view(-1, 2)
        counts = torch.tensor([len(of_item) for of_item in batch.truth])
        return replace(batch, truth=ToldTruth(stretches, counts, event, tokens, torch.arange(longest) < lengths[:, None]))


def prepare(model: EventCaptioner, videos: ToldVideos) -> None:
    """Let a new model learn how vectors are spread, and how often words are said."""
    model.enter.learn(some_videos(model, videos.features))
    texts = [text for events in videos.events for event in events for text in _told_of(event, model)]
    tokens = [token for text in texts for token in (*model.tokenizer.encode(text), model.tokenizer.end)]
    model.teller.learn_usual(torch.bincount(torch.tensor(tokens), minlength=model.tokenizer.vocabulary_size))


def _told_of(event: ToldStretch, model: EventCaptioner) -> tuple[str, ...]:
    """What a model learns to say of an event: of one that finds its stretches any phrasing, else the sentence of the paragraph."""
    return event.phrasings if model.config.segments == "found" else (event.sentence,)


TASK = Task(
    model=EventCaptioner,
    training=CaptioningTraining,
    worlds=toybox_sentences,
    files=file_sentences,
    classes=lambda data: toybox_vocabulary(),
    source=told_batches,
    prepare=prepare,
    given={"vocabulary": lambda encoder, classes, data: classes},
)
