"""The facade: one folder of videos' features that can be added to, searched, inspected and repaired.

with Library.open("lib", encoder="openclip:ViT-B-32/datacomp_xl_s13b_b90k") as lib:
    report = lib.add(["videos/"])
    hits = lib.search("a dog jumps", top_k=5)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from vlm.encoders.base import Encoder
from vlm.errors import InputError, NoWords, QueryError
from vlm.index import catalog
from vlm.index.database import FILE_NAME, make_folder
from vlm.index.equipment import Equipment
from vlm.index.model import Progress
from vlm.index.records import AddEstimate, AddEvent, AddReport, FileChanges, LibraryStats, Quarantined, SearchResult, VideoRecord
from vlm.index.scan import PathLike, scan
from vlm.index.store import Store
from vlm.types import Features, Grounded, Span, Thumbnail
from vlm.video.sample import Sampling

if TYPE_CHECKING:
    from vlm.index.ask import Asked
    from vlm.index.duplicates import SharedStretch
    from vlm.index.filters import Filters
    from vlm.index.footage import Footage
    from vlm.index.temporal import When
    from vlm.index.why import Why
    from vlm.models.answerer import Answerer
    from vlm.models.model import VideoTextModel
    from vlm.models.plain import Reader


class Library:
    """A library on disk. Opening is cheap: the model and the vector index are loaded when they are first needed.

    Many processes may read while one writes; a second writer gets LibraryBusy. Not for several threads at once.
    """

    def __init__(
        self, store: Store, *, encoder: str | Encoder | None, sampling: str | Sampling | None, device: str, index_device: str
    ) -> None:
        self._store = store
        self._gear = Equipment(store, encoder=encoder, sampling=sampling, device=device, index_device=index_device)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: str | Encoder | None = None,
        sampling: str | Sampling | None = None,
        device: str = "auto",
        index_device: str = "auto",
        create: bool = True,
        read_only: bool = False,
    ) -> Self:
        """The library in folder ``path``; a new one where there is none and ``create`` is set.

        Args:
            encoder: a spec or a loaded encoder; by default the library's own, and for a new library a real CLIP (DEFAULT_ENCODER).
            sampling: which frames ``add`` looks at, for a new library; by default one a second.
            device: where the encoder runs; ``index_device``: where the vector index is searched (``auto``, ``cpu``, ``cuda:N``).

        Raises:
            LibraryNotFound, LibraryTooNew, LibraryDamaged, LibraryReadOnly: it cannot be opened so.
        """
        folder = Path(path).expanduser()
        if not (folder / FILE_NAME).exists() and create and not read_only:
            make_folder(folder)
            store = Store.create(folder)
        else:
            store = Store.open(folder, read_only=read_only)
        return cls(store, encoder=encoder, sampling=sampling, device=device, index_device=index_device)

    def close(self) -> None:
        """Gives the files back; harmless when repeated."""
        self._gear.lock.release()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The library's folder."""
        return self._store.folder

    @property
    def encoder_spec(self) -> str | None:
        """The encoder that the library was made with; None before the first ``add``."""
        held = self._gear.read_passport()
        return None if held is None else held.encoder

    def add(
        self,
        paths: PathLike | Iterable[PathLike],
        *,
        retry: bool = False,
        on_event: Callable[[AddEvent], None] | None = None,
        deadline_seconds: float = 60.0,
    ) -> AddReport:
        """Adds the videos among files and folders: new ones, changed ones, and those that an earlier run left unfinished.

        Args:
            retry: tries quarantined files again although they have not changed.
            on_event: is told of progress and of every settled file, in this thread.
            deadline_seconds: how long a file may be decoded without any progress before it is quarantined.

        Raises:
            LibraryBusy: another process is writing. EncoderError: the model cannot be used. LibraryFull: what was committed is safe.
        """
        from vlm.index.add import Adder

        self._gear.refuse_read_only()
        self._gear.refuse_other_sampling()
        found = scan(paths)
        with self._gear.lock.held():
            adder = Adder(self._store, self._gear.prepare_adding, retry=retry, deadline_seconds=deadline_seconds, on_event=on_event)
            report = adder.run(found)
            if not report.interrupted and self._gear.read_passport() is not None:
                report = replace(report, warnings=(*report.warnings, *self._gear.refresh_index()))
                self._gear.refresh_confidence()
        return report

    def estimate(self, paths: PathLike | Iterable[PathLike]) -> AddEstimate:
        """What ``add`` of the same paths would cost here; downloads nothing and writes nothing."""
        from vlm.index.estimate import estimate

        return estimate(self._store, scan(paths), self._gear.spec_to_load(), self._gear.sampling(), device=self._gear.device)

    def search(
        self,
        query: str = "",
        *,
        like: PathLike | int | Footage | Sequence[PathLike | int | Footage] = (),
        plus: Sequence[str | tuple[str, float]] = (),
        minus: Sequence[str | tuple[str, float]] = (),
        only: Filters | None = None,
        top_k: int = 10,
        skip: int = 0,
        group_by: Literal["video", "segment"] = "video",
        min_confidence: float | None = None,
        second_look: bool = True,
        latency_ms: float | None = None,
    ) -> SearchResult:
        """The ``top_k`` best stretches for a query, best first: one per video, or several (``group_by="segment"``).

        Args:
            query: what should be seen, in words.
            like: what hits should look like: a picture file, or footage: a video by id or path, or a stretch of one (``Footage.within``).
            plus, minus: texts, alone or with a weight, that hits should be more or less like.
            only: which videos may be found.
            skip: how many hits to leave out from the top, for the next page.
            min_confidence: leave out hits that the library is less likely than this to show; see Hit.
            second_look: read the stored rows of the best videos for a query of one text: for the best moment of each, its curve, and,
                with a model trained to tell, their order (index.second). Not for ``group_by="segment"``.
            latency_ms: how long the second look may take; what it skipped is told.

        Raises:
            QueryError: the query is empty or too long, says only what to leave out, or nothing has been added yet; or ``min_confidence`` is
                asked of a query or a library that has no measure of it.
            EncoderError: the model is not here, or is another one than the library's.
            InputError, UnknownVideo, VideoError: what hits should look like cannot be read.
        """
        from vlm.index.find import Request, find
        from vlm.index.footage import Footage

        self._refuse_empty()
        request = Request(
            query=query,
            like=[like] if isinstance(like, str | bytes | os.PathLike | int | Footage) else like,
            plus=plus,
            minus=minus,
            only=only,
            top_k=top_k,
            skip=skip,
            group_by=group_by,
            min_confidence=min_confidence,
            second_look=second_look,
            latency_ms=latency_ms,
        )
        return find(self._gear, request, self.footage)

    def why(
        self,
        query: str,
        *,
        rank: int = 1,
        video: int | None = None,
        only: Filters | None = None,
        top_k: int = 10,
        group_by: Literal["video", "segment"] = "video",
        min_confidence: float | None = None,
        second_look: bool = True,
    ) -> Why:
        """Why hit ``rank`` of ``search`` with the same arguments was found, or why ``video`` was or was not; see index.why.

        Raises:
            InputError: a rank that there is not. UnknownVideo: no such ``video``. Else as ``search``.
        """
        from vlm.index.find import Request
        from vlm.index.why import why

        self._refuse_empty()
        if video is not None:
            self.video(video)
        request = Request(query=query, only=only, top_k=top_k, group_by=group_by, min_confidence=min_confidence, second_look=second_look)
        return why(self._gear, request, self.footage, rank=rank, video=video)

    def when(
        self,
        query: str,
        video: int | PathLike | None = None,
        *,
        top_k: int = 10,
        min_probability: float | None = None,
        join_seconds: float | None = None,
        most_read: int | None = None,
    ) -> When:
        """Where a query about time holds (docs/temporal.md): in all videos, or in one by id or path, which may be any other file.

        Args:
            min_probability: from which on a second shows a sentence; join_seconds: stretches of one sentence so near to each other are one.
                By default those of ``vlm.index.temporal``.
            most_read: rows that a trained model reads, once for each sentence; a library with more is read where it is likeliest.

        Raises:
            GrammarError: the query is none. QueryError: nothing has been added yet. UnknownVideo, VideoError, EncoderError: as ``footage``.
        """
        from vlm.index import temporal

        if video is None:
            self._refuse_empty()
        return temporal.when(
            self._gear,
            query,
            None if video is None else self.footage(video),
            top_k=top_k,
            min_probability=temporal.MIN_PROBABILITY if min_probability is None else min_probability,
            join_seconds=temporal.JOIN_SECONDS if join_seconds is None else join_seconds,
            most_read=temporal.MOST_READ if most_read is None else most_read,
        )

    def _refuse_empty(self) -> None:
        if self._gear.read_passport() is None or not self._store.has_segments():
            raise QueryError(f"library {str(self.path)!r} holds no video yet: vlm add VIDEOS --library {self.path}")

    def duplicates(
        self,
        video: int | None = None,
        *,
        min_seconds: float = 5.0,
        repeats: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[SharedStretch]:
        """Stretches that videos share, or this one with others, with both places; the longest first. See ``vlm.index.duplicates``."""
        from vlm.index.duplicates import find_duplicates

        return find_duplicates(self._store, video_id=video, min_seconds=min_seconds, repeats=repeats, on_progress=on_progress)

    def videos(self) -> list[VideoRecord]:
        """All videos in order of id."""
        return catalog.videos(self._store)

    def video(self, video_id: int) -> VideoRecord:
        """One video. Raises UnknownVideo."""
        found = catalog.videos(self._store, video_id)
        if not found:
            raise self._store.unknown(video_id)
        return found[0]

    def quarantined(self) -> list[Quarantined]:
        """Files that could not be added, with their reasons."""
        return catalog.quarantined(self._store)

    def features(self, video_id: int) -> Features:
        """The stored frame (or window) vectors of a video, with times. Raises UnknownVideo."""
        return self._store.features(video_id)

    def thumbnails(self, video_id: int) -> list[Thumbnail]:
        """Small JPEGs of a video in order of time. Raises UnknownVideo."""
        self.video(video_id)
        return self._store.thumbnails(video_id)

    def thumbnail(self, video_id: int, seconds: float) -> Thumbnail | None:
        """The small JPEG nearest to a moment of a video; None where it has none. Raises UnknownVideo."""
        clock = self._store.clock(video_id)
        held = self.thumbnails(video_id)
        return min(held, key=lambda one: abs(float(clock.exact_seconds(one.pts)) - seconds), default=None)

    def resolve(self, reference: str) -> int:
        """The id of the video that ``reference`` means: an id, or the path of a file. Raises UnknownVideo."""
        return catalog.resolve(self._store, reference)

    def remove(self, video_ids: int | Sequence[int]) -> int:
        """Removes videos from the library (never the files). Returns how many; raises UnknownVideo before removing any."""
        wanted = [video_ids] if isinstance(video_ids, int) else list(dict.fromkeys(video_ids))
        self._gear.refuse_read_only()
        with self._gear.lock.held():
            for video_id in wanted:
                self.video(video_id)
            with self._store.transaction():
                for video_id in wanted:
                    self._store.remove_video(video_id)
        return len(wanted)

    def changed_files(self, *, budget_seconds: float | None = None) -> FileChanges:
        """Files that changed or went away since the last ``add``; looking ends after ``budget_seconds``."""
        return catalog.changed_files(self._store, budget_seconds=budget_seconds)

    def stats(self) -> LibraryStats:
        """Sizes, and what the library was made with."""
        model = self._gear.slot.held()
        return catalog.stats(self._store, self._gear.read_passport(), self._gear.index_cache(), model=None if model is None else model.name)

    def verify(self) -> list[str]:
        """Everything that is wrong with the files of the library, one sentence each; empty when all is well."""
        held = self._gear.read_passport()
        problems = self._store.problems()
        if held is not None:
            problems += catalog.vector_problems(self._store, held.dim)
            problems += self._gear.index_cache().problems()
            problems += self._gear.slot.problems(held)
        return problems

    def compact(self) -> None:
        """Gives the space of removed and unfinished videos back to the disk."""
        self._gear.refuse_read_only()
        with self._gear.lock.held():
            self._store.compact()
            self._gear.slot.sweep()
            if self._gear.read_passport() is not None:
                self._gear.refresh_index()

    def rebuild(self) -> None:
        """Cuts all videos into segments again from their stored features, and builds the vector index anew. Decodes nothing."""
        self._gear.refuse_read_only()
        with self._gear.lock.held():
            catalog.cut_again(self._store, self._gear.pool())
            if self._gear.read_passport() is not None:
                self._gear.index_cache().rebuild(probe_texts=self._gear.probe_texts())

    def load_encoder(self) -> Encoder:
        """The library's encoder, loaded once.

        Raises:
            EncoderError: it is not here, or is another one than the library's.
        """
        return self._gear.load_encoder()

    @property
    def model(self) -> VideoTextModel | None:
        """The trained model that segments and queries go through; None where there is none.

        Raises:
            WeightsUnavailable, EncoderMismatch: it is missing, damaged, or made for another encoder; says how to go on.
        """
        return self._gear.model

    def reader(self) -> Reader:
        """What grounds sentences and answers questions over ``features``: the trained model for what it was found to do better, and the
        encoder alone for the rest, or for all where there is no model.

        Raises:
            EncoderError: the encoder or the model is not here, or is another one than the library's.
        """
        return self._gear.reader()

    def footage(self, video: int | PathLike, *, on_progress: Callable[[float], None] | None = None) -> Footage:
        """A video's features, ready to be asked: stored ones by id or path, or those of any other file, which is read now and stored
        nowhere. ``on_progress`` hears how many seconds of a file have been read.

        Raises:
            UnknownVideo: no such id and no such file. VideoError: the file cannot be used. EncoderError: the encoder is not here.
        """
        from vlm.index import footage

        if isinstance(video, int):
            return footage.stored(self._store, video)

        def read(path: str) -> Footage:
            encoder = self.load_encoder()
            return footage.read_file(path, encoder, self._gear.sampling_for(encoder), on_progress=on_progress)

        return footage.found(self._store, os.fsdecode(video), read)

    def footage_at(self, video: PathLike, sampling: str) -> Footage:
        """As ``footage``, by frames that ``sampling`` chooses: stored ones where the library samples so, else read from the file now.

        Raises:
            InputError: the library samples otherwise, and the file is gone. UnknownVideo, VideoError, EncoderError: as ``footage``.
        """
        from vlm.index import footage

        def read(path: str) -> Footage:
            return footage.read_file(path, self.load_encoder(), Sampling.parse(sampling))

        return footage.sampled(self._store, os.fsdecode(video), sampling, str(self._gear.sampling()), read)

    def ground(self, texts: Sequence[str], video: int | PathLike | Footage, *, within: Span | None = None) -> list[Grounded]:
        """Where in a video each text is true; all texts against one reading of the video. ``within`` looks at a stretch alone.

        Raises:
            QueryError: a text is empty or too long. SpanError: the stretch holds no frame. UnknownVideo, VideoError, EncoderError.
        """
        from vlm.index.footage import Footage
        from vlm.index.ground import ground
        from vlm.index.search import checked_query

        sentences = [checked_query(text) for text in texts]
        found = video if isinstance(video, Footage) else self.footage(video)
        return ground(self._gear, sentences, found if within is None else found.within(within))

    def ask(
        self,
        question: str,
        video: int | PathLike | Footage | None = None,
        *,
        choices: Sequence[str] = (),
        within: Span | None = None,
        answerer: Answerer | None = None,
    ) -> Asked:
        """The answer to a question about a video, a stretch of it (``within``), or, without ``video``, the library's best videos for it.

        An ``answerer`` (``vlm.models.answerer_hf.load_answerer``) is shown the frames of the moment that is found for the question.

        Raises:
            QueryError: the question is empty or too long, or cannot be answered without ``choices``. InputError: choices that leave no
            choice, or a stretch of no video. SpanError, UnknownVideo, VideoError, EncoderError: as ``ground``.
        """
        from vlm.index.ask import ask, ask_larger, found_for
        from vlm.index.footage import Footage
        from vlm.index.search import checked_query, query_warnings

        sentence = checked_query(question)
        one: Footage | None = None
        if video is None:
            if within is not None:
                raise InputError("a stretch needs the video that it is of: name the video, or leave the stretch out")
            found: Iterable[Footage] = found_for(sentence, choices, self.search, self.footage)
        else:
            one = video if isinstance(video, Footage) else self.footage(video)
            found = [one if within is None else one.within(within)]
        if answerer is not None:
            asked = ask_larger(answerer, self.reader(), sentence, found, choices=choices)
        else:
            try:
                asked = ask(self.reader(), sentence, found, choices=choices)
            except NoWords:
                presence = self._presence(sentence, one) if within is None else None
                if presence is None:
                    raise
                asked = presence
        return replace(asked, warnings=(*query_warnings(sentence, self.load_encoder()), *asked.warnings))

    def _presence(self, question: str, footage: Footage | None) -> Asked | None:
        """Yes or no by calibrated presence, where the question and the library allow it."""
        from vlm.index.ask import ask_presence
        from vlm.index.find import Request, find

        if footage is not None and footage.video_id is None:
            return None
        videos = None if footage is None or footage.video_id is None else [footage.video_id]

        def search(statement: str) -> SearchResult:
            return find(self._gear, Request(query=statement, videos=videos, top_k=1), self.footage)

        return ask_presence(search, question, footage, self.footage)

    def attach(self, folder: PathLike, *, on_progress: Progress | None = None) -> str:
        """Takes a copy of a trained model into the library and pools all segments anew by it; gives its name there. Decodes nothing.

        Stopped at any moment, the library has the model that it had or the new one. ``on_progress`` hears how many videos of how many
        are done.

        Raises:
            InputError: no such folder, or nothing has been added yet. WeightsUnavailable: the folder holds no sound model.
            EncoderMismatch: the model was made for another encoder. LibraryBusy, LibraryReadOnly, LibraryFull: nothing has changed.
        """
        self._gear.refuse_read_only()
        held = self._gear.read_passport()
        if held is None:
            raise InputError(f"library {str(self.path)!r} holds no video yet, and no model can be its own: vlm add VIDEOS first")
        with self._gear.lock.held():
            source = Path(os.fsdecode(folder)).expanduser()
            attached = self._gear.slot.attach(source, held, device=self._gear.model_device(), on_progress=on_progress)
            self._gear.index_cache().rebuild(probe_texts=self._gear.probe_texts())
        return attached.name

    def detach(self, *, on_progress: Progress | None = None) -> str | None:
        """Takes the trained model out and pools all segments by the mean again; gives its name, None where there was none."""
        self._gear.refuse_read_only()
        with self._gear.lock.held():
            gone = self._gear.slot.detach(on_progress=on_progress)
            if gone is not None:
                self._gear.index_cache().rebuild(probe_texts=self._gear.probe_texts())
        return None if gone is None else gone.name
