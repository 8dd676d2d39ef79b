"""The trained model of a library: its copy in the library's folder, proved whole before it is used, and what taking one in or out changes.

The store's record and its segments change in one transaction: at every moment all segments are pooled by the model that is recorded, or all
by the mean where none is. The folder of a model is complete before the record names it, and is removed only when no record does.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from vlm.errors import EncoderMismatch, InputError, LibraryError, VlmError, WeightsUnavailable
from vlm.index import catalog, segments
from vlm.index.passport import Passport, refuse_collapse
from vlm.index.store import Store
from vlm.types import Features, Segment, Span

if TYPE_CHECKING:
    from vlm.models.model import VideoTextModel

FOLDER = "models"
META = "model"
# What a model was found to do better than the encoder alone: moments, the right one of given options, answers of its own.
SKILLS = ("ground", "choose", "answer")
SKILLS_FILE = "skills.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Attached:
    """What a library records of its trained model: the name of its folder in ``models``, a digest of its files, and its skills."""

    name: str
    digest: str
    skills: tuple[str, ...]


class ModelSlot:
    """The place of a library's trained model. The model is loaded when it is first needed, and again when another has taken its place."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: tuple[Attached, VideoTextModel] | None = None

    def held(self) -> Attached | None:
        """What the library records now; None where its segments are pooled by the mean."""
        text = self._store.meta(META)
        if text is None:
            return None
        fields = json.loads(str(text))
        return Attached(fields["name"], fields["digest"], tuple(fields["skills"]))

    def load(self, passport: Passport) -> VideoTextModel | None:
        """The model that the library's segments are pooled by; None where there is none.

        Raises:
            WeightsUnavailable, EncoderMismatch: it is missing, damaged, or made for another encoder; says how to go on.
        """
        while (held := self.held()) is not None:
            if self._loaded is not None and self._loaded[0] == held:
                return self._loaded[1]
            try:
                self._loaded = (held, _opened(self._store.folder, held, passport))
            except VlmError:
                if self.held() == held:  # else another process has just changed it
                    raise
        self._loaded = None
        return None

    def problems(self, passport: Passport) -> list[str]:
        """What is wrong with the model's files, one sentence at most."""
        held = self.held()
        if held is None:
            return []
        try:
            _opened(self._store.folder, held, passport)
        except (WeightsUnavailable, EncoderMismatch) as error:
            return [str(error)]
        return []

    def attach(self, source: Path, passport: Passport, *, device: str, on_progress: Progress | None = None) -> Attached:
        """Takes a copy of the model in ``source`` in, and pools all segments anew by it. The caller holds the writer's lock.

        Raises:
            InputError: ``source`` is no folder. WeightsUnavailable: it holds no model, or a damaged one.
            EncoderMismatch: made for another encoder. BadVectors: its vectors are dead. LibraryError: it cannot be copied.
        """
        from vlm.index.adapted import AdapterPool
        from vlm.models.model import VideoTextModel

        if not source.is_dir():
            raise InputError(f"there is no folder {str(source)!r} with a trained model: `vlm train` writes one into OUT/model")
        model = VideoTextModel.from_pretrained(source)
        _check_encoder(model, passport, str(source), self._store.folder)
        pool = AdapterPool(model, device=device)
        _check_alive(pool, passport, str(source))
        held = _copied(source, self._store.folder, skills_of(source, model))
        with self._store.transaction():
            self._store.set_meta(META, json.dumps(asdict(held)))
            catalog.cut_all(self._store, pool, on_progress=on_progress)
        self.sweep()
        return held

    def detach(self, *, on_progress: Progress | None = None) -> Attached | None:
        """Takes the model out and pools all segments by the mean again; gives what it was. The caller holds the writer's lock."""
        held = self.held()
        if held is not None:
            with self._store.transaction():
                self._store.forget_meta(META)
                catalog.cut_all(self._store, segments.pool, on_progress=on_progress)
        self.sweep()
        return held

    def sweep(self) -> None:
        """Removes folders of models that the library does not record: what it had before, and what a killed process left."""
        held, home = self.held(), self._store.folder / FOLDER
        for other in home.iterdir() if home.is_dir() else ():
            if held is None or other.name != held.name:
                shutil.rmtree(other, ignore_errors=True)


def digest_of(folder: Path) -> str:
    """A digest of a model's config, weights and skills as they lie on disk.

    Raises:
        WeightsUnavailable: one of them cannot be read.
    """
    from vlm.models.folder import CONFIG, WEIGHTS

    digest = xxhash.xxh3_128()
    for name in (CONFIG, WEIGHTS):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise WeightsUnavailable(f"{str(folder / name)!r} cannot be read: {error.strerror or error}") from error
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    if (folder / SKILLS_FILE).is_file():
        digest.update((folder / SKILLS_FILE).read_bytes())
    return digest.hexdigest()


def ways_out(library: Path) -> str:
    """How to go on with a library whose trained model cannot be used."""
    return (
        f"train one again (vlm train --library {library} --data FILE), attach a copy of it (vlm attach FOLDER --library {library}), "
        f"or go back to the encoder alone (vlm detach --library {library})"
    )


def _opened(library: Path, held: Attached, passport: Passport) -> VideoTextModel:
    """The model in the library's own folder, found to be the recorded one."""
    from vlm.models.model import VideoTextModel

    folder = library / FOLDER / held.name
    what = f"the trained model {held.name!r} of library {str(library)!r}"
    try:
        found = digest_of(folder)
        if found != held.digest:
            raise WeightsUnavailable(f"its files have the digest {found}, not {held.digest} as recorded")
        model = VideoTextModel.from_pretrained(folder)
    except WeightsUnavailable as error:
        raise WeightsUnavailable(f"{what} is missing or damaged ({error}): {ways_out(library)}") from error
    _check_encoder(model, passport, what, library)
    return model


def _check_encoder(model: VideoTextModel, passport: Passport, what: str, library: Path) -> None:
    config = model.config
    if config.fingerprint != passport.fingerprint or config.adapter.dim != passport.dim:
        raise EncoderMismatch(
            f"{what} was made for the encoder {config.encoder!r} (fingerprint {config.fingerprint[:12]}, {config.adapter.dim} wide), "
            f"and the library for {passport.encoder!r} (fingerprint {passport.fingerprint[:12]}, {passport.dim} wide): {ways_out(library)}"
        )


def _check_alive(pool: segments.Pool, passport: Passport, what: str) -> None:
    """Refuses a model that gives the same vector, or none, for the passport's unlike pictures."""
    whole = [Segment(level=0, first=0, last=1, span=Span(0.0, 1.0))]
    vectors = [pool(Features(picture[None], np.zeros(1), 1.0), whole) for picture in passport.canary_frames]
    refuse_collapse(np.concatenate(vectors), f"generated pictures by the model in {what!r}")


def skills_of(folder: Path, model: VideoTextModel) -> tuple[str, ...]:
    """The skills that a training has found a model to have (``write_skills``); all that it has parts for where nothing was looked at.

    Raises:
        WeightsUnavailable: the list is damaged.
    """
    from vlm.encoders.weights import read_json

    if model.crossing is None:
        return ()
    if not (folder / SKILLS_FILE).is_file():
        return SKILLS
    listed = read_json(folder / SKILLS_FILE).get("skills")
    if not isinstance(listed, list) or not set(listed) <= set(SKILLS):
        raise WeightsUnavailable(f"{str(folder / SKILLS_FILE)!r} must list skills of {', '.join(SKILLS)}, got {listed!r}")
    return tuple(listed)


def write_skills(folder: Path, skills: Sequence[str]) -> None:
    """Writes beside a model what it was found to do better than its encoder alone."""
    (folder / SKILLS_FILE).write_text(json.dumps({"skills": list(skills)}) + "\n", "utf-8")


def _copied(source: Path, library: Path, skills: tuple[str, ...]) -> Attached:
    """The model's files under ``models``, brought to disk before the folder has its name."""
    from vlm.models.folder import CARD, CONFIG, WEIGHTS

    digest = digest_of(source)
    held = Attached(f"{source.resolve().name}-{digest[:8]}", digest, skills)
    home = library / FOLDER
    try:
        home.mkdir(exist_ok=True)
        if (home / held.name).is_dir() and _holds(home / held.name, digest):
            return held
        beside = home / ".unfinished"
        shutil.rmtree(beside, ignore_errors=True)  # of a killed process
        beside.mkdir()
        for name in (CONFIG, WEIGHTS, CARD, SKILLS_FILE):
            if (source / name).is_file():
                _copy_to_disk(source / name, beside / name)
        shutil.rmtree(home / held.name, ignore_errors=True)  # one that is damaged
        os.replace(beside, home / held.name)
    except OSError as error:
        raise LibraryError(
            f"the model in {str(source)!r} cannot be copied into library {str(library)!r} ({error.strerror or error}): "
            "free space there; the library is unchanged"
        ) from error
    return held


def _copy_to_disk(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())


def _holds(folder: Path, digest: str) -> bool:
    try:
        return digest_of(folder) == digest
    except WeightsUnavailable:
        return False
