"""A model for a user's own library, from its stored features and the user's rows: adapters, interaction and heads. Nothing is decoded.

Few rows are easily learnt by heart: then a model finds what it was shown, and everything else worse than the encoder alone. Some videos are
therefore held out. Adapters get the strength at which the held-out captions are found best, which may be none, and the heads are used for
what they do better than the encoder alone; what cannot be judged is left to the encoder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm.data.formats.own import OwnCaption, OwnQuestion
from vlm.encoders.base import Encoder
from vlm.eval.understanding import AskedMoment, AskedQuestion, accuracies, judge
from vlm.index.library import Library
from vlm.index.model import SKILLS, write_skills
from vlm.models.model import VideoTextModel, build
from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader, batch_of
from vlm.train.batches import ExampleSource
from vlm.train.examples import Example, texts_of
from vlm.train.log import read_log
from vlm.train.loop import LoopConfig, Source, run
from vlm.train.own_config import OwnConfig, SizesConfig
from vlm.train.own_rows import RowCounts, Said, Views, count_rows, gather, open_answers, positives, read_labels, stored_features
from vlm.train.own_stretches import StretchSource, excluded_pairs, stretches_of
from vlm.train.recipe import read_recipe
from vlm.train.retrieval import RetrievalTraining, encode_words
from vlm.train.toybox import MixedSource
from vlm.train.video_text import CrossingTraining, LossConfig, MixedTraining
from vlm.train.words import TextBank

AT_ONCE = 64
# Captions whose moments are looked for at every validation.
MOST_VALIDATED = 64
# Strengths of adapters that are tried on held-out captions; at 0 they change nothing.
STRENGTHS = (0.0, 0.25, 0.5, 1.0)
# How often each kind of example is drawn, where there are any.
SHARES = {"caption": 1.0, "absent": 1.0, "choice": 1.0, "open": 1.0, "unanswerable": 0.5}


SECTIONS: dict[str, type[Any]] = {"model": SizesConfig, "data": OwnConfig, "losses": LossConfig, "loop": LoopConfig}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What ``rows`` held-out rows say of one ability: a figure for the encoder alone and one for the model, higher is better.

    ``search``: mean reciprocal rank of a caption's own stretch. ``ground``: IoU of the best moment. ``choose``, ``answer``: share of right
    answers; the encoder alone has no answers of its own, and the commonest answer stands for it.
    """

    ability: str
    rows: int
    plain: float
    trained: float

    @property
    def is_better(self) -> bool:
        """Whether the model is to be used for it."""
        return self.trained > self.plain


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReport:
    """What a training used, and what became of it.

    Attributes:
        folder: of the model. steps: of the optimiser. judged: abilities of which enough was held out.
        strength: of the adapters, in [0, 1]; at 0 the model searches as the encoder alone does. skills: see index.model.SKILLS.
        notes: what should be known.
    """

    folder: Path
    rows: RowCounts
    steps: int
    judged: tuple[Judgement, ...]
    strength: float
    skills: tuple[str, ...]
    notes: tuple[str, ...]


def train_own(library: Library, data: Sequence[Path], recipe: Path, out: Path, *, resume: bool = False, **instead: Any) -> OwnReport:
    """Trains a model for ``library`` on the rows of ``data`` and writes it to ``out/model``; averaged weights. Attaches nothing.

    Args:
        instead: ``mixer``, ``seed`` and ``steps``, instead of the recipe's.

    Raises:
        InputError: the recipe or a row breaks a rule.
    """
    made = read_recipe(recipe, SECTIONS)
    config: OwnConfig = made["data"]
    sizes: SizesConfig = replace(made["model"], **({"mixer": instead["mixer"]} if instead.get("mixer") else {}))
    labels = read_labels(library, data)
    encoder = library.load_encoder()
    ids = sorted({label.video_id for label in labels})
    said = gather(labels, {video_id: number for number, video_id in enumerate(ids)})
    views = Views(stored_features(library, ids), most_rows=config.most_rows)
    loop: LoopConfig = made["loop"]
    loop = replace(loop, seed=instead.get("seed", loop.seed), steps=instead.get("steps") or steps_for(len(said), config, loop))

    torch.manual_seed(loop.seed)
    model = build(encoder, config=sizes.config(encoder, library.encoder_spec or encoder.name, open_answers(said)))
    task = _Task(model, config, encoder, said, views, loop.seed)
    shares = {"crossing": 1.0 - task.retrieval_share, "retrieval": task.retrieval_share}
    module, source = MixedTraining(task.parts(made["losses"])), MixedSource(task.sources(), shares, loop.seed)
    if not task.can_validate:
        loop = replace(loop, patience=0)
    validate = task.validate if loop.patience else None
    average = run(module, source, loop, out, resume=resume, identity=_identity(model, config, said, ids), validate=validate)
    module.load_state_dict(average.values)
    model.cpu().eval()
    judged, strength, skills = task.judge()
    report = OwnReport(
        folder=out / "model",
        rows=count_rows(labels),
        steps=len(read_log(out)),
        judged=judged,
        strength=strength,
        skills=skills,
        notes=tuple(task.notes),
    )
    model.save_pretrained(report.folder, card=_card(model, report))
    write_skills(report.folder, skills)
    return report


def steps_for(num_rows: int, config: OwnConfig, loop: LoopConfig) -> int:
    """Steps that show each row ``epochs`` times, no more than ``loop.steps``."""
    a_step = loop.accumulation * (config.retrieval_share * config.batch_captions + (1 - config.retrieval_share) * config.batch_examples)
    return max(1, min(loop.steps, math.ceil(config.epochs * num_rows / a_step)))


class _Task:
    """What is learnt from a user's rows, once they are read: the parts of the training, and how the model is judged."""

    def __init__(self, model: VideoTextModel, config: OwnConfig, encoder: Encoder, said: Sequence[Said], views: Views, seed: int) -> None:
        self._model, self._config, self._encoder, self._views, self._seed = model, config, encoder, views, seed
        self.notes: list[str] = []
        answers = model.config.answers
        held = held_out_videos(said, config, seed)
        learnt, judged = [one for one in said if one.video not in held], [one for one in said if one.video in held]
        self._examples = [*positives(learnt, views, answers), *negatives(encoder, learnt, views, config, seed)]
        self._judged = positives(judged, views, answers)
        self._shown, self._held_out = stretches_of(learnt, views), stretches_of(judged, views)
        captions = [one.text for one in (*self._shown, *self._held_out)]
        self._bank = TextBank(encoder, [*texts_of(self._examples, answers), *captions])
        self.retrieval_share = config.retrieval_share if len({one.text for one in self._shown}) > 1 else 0.0
        if captions and not any(example.kind == "absent" for example in self._examples):
            self.notes.append("no caption is of one video alone: the model cannot learn to say that something is not shown")

    def parts(self, losses: LossConfig) -> dict[str, nn.Module]:
        """The modules that learn."""
        found: dict[str, nn.Module] = {"crossing": CrossingTraining(self._model, losses)}
        if self.retrieval_share:
            found["retrieval"] = RetrievalTraining(self._model, self._config.first_scale)
        return found

    def sources(self) -> dict[str, Source]:
        """Where their batches come from."""
        config, kinds = self._config, {example.kind for example in self._examples}
        shares = {kind: share for kind, share in SHARES.items() if kind in kinds}
        crossing = ExampleSource(
            self._examples,
            self._views,
            self._bank,
            config.batch_examples,
            shares,
            seed=self._seed,
            answers=self._model.config.answers,
            unseen_share=config.unseen_share,
        )
        retrieval = StretchSource(self._shown, self._views, self._bank, config.same_text, config.batch_captions, self._seed)
        return {"crossing": crossing, "retrieval": retrieval}

    @property
    def can_validate(self) -> bool:
        """Whether enough captions are held out to see when to stop."""
        return len(self._held_out) >= self._config.least_held_out

    def validate(self, _: nn.Module) -> float:
        """How well held-out captions are found, and their moments: a figure to be raised."""
        found = float((1.0 / self._ranks()).mean())
        rows = [example for example in self._judged if example.kind == "caption" and example.spans][:MOST_VALIDATED]
        return found + (self._grounded(self._trained(), rows) if rows else 0.0)

    def _trained(self) -> TrainedReader:
        return TrainedReader(self._encoder, self._model, device=str(next(self._model.parameters()).device))

    def judge(self) -> tuple[tuple[Judgement, ...], float, tuple[str, ...]]:
        """What held-out rows say, the strength that the adapters now have, and the skills of the heads."""
        taught = {"ground": any(example.has_moments and example.spans for example in self._examples)}
        taught |= {skill: any(e.kind == kind for e in self._examples) for skill, kind in (("choose", "choice"), ("answer", "open"))}
        if not self._config.held_out:
            self.notes.append("nothing was held out: whether the model does better than the encoder alone is not known")
            return (), float(self.retrieval_share > 0), tuple(skill for skill in SKILLS if taught[skill])
        search, strength = self._weigh_adapters()
        readers = PlainReader(self._encoder), self._trained()
        found = [search, *(self._judge_skill(skill, *readers) for skill in SKILLS if taught[skill])]
        judged = tuple(one for one in found if one is not None)
        return judged, strength, tuple(one.ability for one in judged if one.is_better and one.ability in SKILLS)

    def _enough(self, rows: Sequence[object], ability: str) -> bool:
        if len(rows) < self._config.least_held_out:
            self.notes.append(
                f"{ability} is left to the encoder alone: {len(rows)} rows are held out to judge it by, {self._config.least_held_out} are "
                "needed; label more videos, or set held_out = 0 in a recipe to use what was learnt unjudged"
            )
        return len(rows) >= self._config.least_held_out

    def _weigh_adapters(self) -> tuple[Judgement | None, float]:
        """How held-out captions are found at the best of STRENGTHS, which the adapters then have."""
        gates = {name: value.detach().clone() for name, value in self._model.named_parameters() if _is_adapter_gate(name)}
        if not self.retrieval_share or not self._enough(self._held_out, "search"):
            self._set_gates(gates, 0.0)
            return None, 0.0
        ranks = {}
        for strength in STRENGTHS:
            self._set_gates(gates, strength)
            ranks[strength] = float((1.0 / self._ranks()).mean())
        best = max(STRENGTHS, key=lambda strength: (ranks[strength], -strength))
        self._set_gates(gates, best)
        return Judgement("search", len(self._held_out), ranks[0.0], ranks[best]), best

    @torch.no_grad()
    def _set_gates(self, gates: Mapping[str, Tensor], strength: float) -> None:
        for name, value in self._model.named_parameters():
            if name in gates:
                value.copy_(strength * gates[name])

    @torch.inference_mode()
    def _ranks(self) -> NDArray[np.int64]:
        """The rank of each held-out caption's own stretch among all; pairs that may be true do not count against it."""
        gallery, asked, device = [*self._held_out, *self._shown], len(self._held_out), next(self._model.parameters()).device
        videos, texts, pooled = [], [], []
        for first in range(0, len(gallery), AT_ONCE):
            some = gallery[first : first + AT_ONCE]
            frames, times, mask, _ = (tensor.to(device) for tensor in batch_of([self._views[one.view] for one in some]))
            videos.append(self._model.encode_video(frames, times, mask).pooled.cpu())
            words = self._bank.words([one.text for one in some])
            texts.append(encode_words(self._model, words, device).cpu())
            pooled.append(words.pooled.float())
        similarity = torch.cat(texts)[:asked] @ torch.cat(videos).T  # (asked, gallery)
        excluded = excluded_pairs(gallery, torch.cat(pooled), self._config.same_text)[:asked]
        own = similarity.diagonal()[:, None]
        return np.asarray(1 + ((similarity > own) & ~excluded).sum(dim=1))

    def _judge_skill(self, skill: str, plain: PlainReader, trained: TrainedReader) -> Judgement | None:
        kind = {"ground": "caption", "choose": "choice", "answer": "open"}[skill]
        rows = [example for example in self._judged if example.kind == kind and (skill != "ground" or example.spans)]
        if not self._enough(rows, skill):
            return None
        if skill == "ground":
            return Judgement(skill, len(rows), *(self._grounded(reader, rows) for reader in (plain, trained)))
        if skill == "choose":
            return Judgement(skill, len(rows), *(self._answered(reader, rows) for reader in (plain, trained)))
        commonest = Counter(example.answer for example in self._examples if example.kind == "open").most_common(1)[0][0]
        return Judgement(skill, len(rows), float(np.mean([row.answer == commonest for row in rows])), self._answered(trained, rows))

    def _grounded(self, reader: Reader, rows: Sequence[Example]) -> float:
        """The mean IoU of the best moment with the nearest true span."""
        asked = [AskedMoment(video=row.video, text=row.text, spans=row.spans) for row in rows]
        return float(np.mean([one.iou for one in judge(reader, self._views.__getitem__, asked)]))

    def _answered(self, reader: Reader, rows: Sequence[Example]) -> float:
        """The share of right answers to rows of one kind; open questions are asked without options."""
        asked = [
            AskedQuestion(
                video=row.video, text=row.text, kind=row.kind, options=row.options if row.kind == "choice" else (), answer=row.answer or ""
            )
            for row in rows
        ]
        (share,) = accuracies(reader, self._views.__getitem__, asked).values()
        return share


def held_out_videos(said: Sequence[Said], config: OwnConfig, seed: int) -> set[int]:
    """The videos whose rows are not learnt from, drawn by ``seed``; at least one is left to learn from."""
    videos = sorted({one.video for one in said})
    number = min(len(videos) - 1, round(config.held_out * len(videos)))
    order = np.random.default_rng([seed, 1]).permutation(videos)
    return set(order[:number].tolist())


def negatives(encoder: Encoder, said: Sequence[Said], views: Views, config: OwnConfig, seed: int) -> list[Example]:
    """Captions and questions before videos of others, which do not show or answer them."""
    found = []
    videos = sorted({one.video for one in said})
    for kind, row_type in (("absent", OwnCaption), ("unanswerable", OwnQuestion)):
        texts = {video: [one.text for one in said if one.video == video and isinstance(one.row, row_type)] for video in videos}
        for video, text in foreign_texts(encoder, texts, config, seed):
            view = views.whole(video)
            if kind == "absent":
                found.append(Example(video=view, text=text, kind=kind, has_moments=True, is_true=False))
            else:
                found.append(Example(video=view, text=text, kind=kind, is_answerable=False))
    return found


def foreign_texts(encoder: Encoder, texts: Mapping[int, Sequence[str]], config: OwnConfig, seed: int) -> list[tuple[int, str]]:
    """For each video up to ``negatives`` texts of others for each of its own, none of which says the same as one of its own.

    Drawn by ``seed``. A video without a text of its own gets none: what would be untrue of it is not known.
    """
    pool = sorted({text for own in texts.values() for text in own})
    if len(pool) < 2:
        return []
    vectors = dict(zip(pool, encoder.encode_text(pool), strict=True))
    random = np.random.default_rng([seed, 2])
    found = []
    for video, own in texts.items():
        if not own:
            continue
        mine = np.stack([vectors[text] for text in own])
        drawn = [pool[number] for number in random.choice(len(pool), size=min(len(pool), 4 * config.negatives * len(own)), replace=False)]
        foreign = [text for text in drawn if text not in own and float((mine @ vectors[text]).max()) < config.same_text]
        found += [(video, text) for text in foreign[: config.negatives * len(own)]]
    return found


def _is_adapter_gate(name: str) -> bool:
    return name.startswith(("adapter.", "text_adapter.")) and name.rsplit(".", 1)[-1] == "gate"


def _identity(model: VideoTextModel, config: OwnConfig, said: Sequence[Said], ids: Sequence[int]) -> str:
    rows = json.dumps([[ids[one.video], one.text, [asdict(span) for span in one.spans], repr(one.row)] for one in said])
    return json.dumps([asdict(model.config), asdict(config), hashlib.sha256(rows.encode()).hexdigest()])


def _card(model: VideoTextModel, report: OwnReport) -> str:
    """The model card: for which encoder, from how many rows, and what was measured."""
    rows = report.rows
    judged = "".join(f"| {one.ability} | {one.rows} | {one.plain:.3f} | {one.trained:.3f} |\n" for one in report.judged)
    table = f"| held out | rows | encoder alone | model |\n|---|---|---|---|\n{judged}" if judged else "Nothing was measured.\n"
    return (
        "---\nlibrary_name: vlm-retrieval\npipeline_tag: video-text-to-text\n---\n\n"
        f"# A model for one library of `{model.config.encoder}`\n\n"
        f"Trained in {report.steps} steps on {rows.span_captions} captions of spans, {rows.whole_captions} of whole videos, {rows.choices} "
        f"choices and {rows.open_questions} open questions about {rows.videos} videos. It reads the vectors of that encoder "
        f"({model.config.fingerprint}) and of no other. Strength of its adapters: {report.strength:g}. Skills of its heads: "
        f"{', '.join(report.skills) or 'none'}.\n\n{table}" + "".join(f"\n* {note}" for note in report.notes) + "\n"
    )
