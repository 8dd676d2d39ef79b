"""What a library works with: its encoder, its trained model and its vector index, each loaded when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, WindowEncoder
from vlm.encoders.registry import DEFAULT_ENCODER, load_encoder, reopens_by_itself
from vlm.encoders.threads import one_thread
from vlm.errors import EncoderMismatch, LibraryReadOnly, UnknownEncoder
from vlm.index import passport, segments
from vlm.index.lock import WriterLock
from vlm.index.model import SKILLS, ModelSlot, skills_of
from vlm.index.store import Store
from vlm.models.shipped import shipped_with
from vlm.video.sample import Sampling

if TYPE_CHECKING:
    from vlm.index.cache import EncodeTexts, IndexCache
    from vlm.index.confidence import Confidence
    from vlm.index.vectors import VectorIndex
    from vlm.models.model import VideoTextModel
    from vlm.models.plain import Reader

DEFAULT_SAMPLING = "every:1"


class Equipment:
    """Everything that reads a library's store, found to belong to it.

    Attributes:
        store, lock, slot: the library's files, its one writer, and the place of its trained model.
    """

    def __init__(
        self, store: Store, *, encoder: str | Encoder | None, sampling: str | Sampling | None, device: str, index_device: str
    ) -> None:
        self.store = store
        self.lock = WriterLock(store.folder)
        self.slot = ModelSlot(store)
        self.device = device
        self._wanted_encoder = encoder
        self._wanted_sampling = None if sampling is None else Sampling.parse(str(sampling))
        self._index_device = index_device
        self._passport: passport.Passport | None = None
        self._encoder: Encoder | None = None
        self._cache: IndexCache | None = None
        self._new_model: tuple[VideoTextModel, tuple[str, ...]] | None = None
        self._texts_checked = False
        self._confidence: tuple[dict[str, object], Confidence | None] | None = None

    def load_encoder(self) -> Encoder:
        """The library's encoder, loaded once.

        Raises:
            EncoderError: it is not here, or is another one than the library's.
        """
        if self._encoder is None:
            wanted = self.spec_to_load()
            encoder = load_encoder(wanted, device=self.device) if isinstance(wanted, str) else wanted
            held = self.read_passport()
            if held is not None:
                passport.check_fingerprint(held, encoder)
            self._encoder = encoder
        return self._encoder

    @property
    def model(self) -> VideoTextModel | None:
        """The trained model that segments and queries go through; None where there is none.

        Raises:
            WeightsUnavailable, EncoderMismatch: it is missing, damaged, or made for another encoder; says how to go on.
        """
        held = self.read_passport()
        return None if held is None else self.slot.load(held)

    def reader(self, instead: Encoder | None = None) -> Reader:
        """What grounds sentences and answers questions over ``features``: the trained model for what it was found to do better, and the
        encoder alone for the rest, or for all where there is no model. A library without videos, through which a file is asked, reads
        as a new one would: by the model that comes with its encoder. Texts are read by ``instead``, where one stands for the encoder.

        Raises:
            EncoderError: the encoder or the model is not here, or is another one than the library's.
        """
        from vlm.models.plain import PlainReader

        encoder = self.load_encoder() if self.read_passport() is None else self.checked_texts()
        encoder = instead or encoder
        model, held = self.model, self.slot.held()
        plain = PlainReader(encoder)
        if model is not None and held is not None:
            skills = held.skills
        elif self.read_passport() is None and (found := self._model_of_new(encoder)) is not None:
            model, skills = found
        else:
            return plain
        from vlm.index.reader import SkilledReader
        from vlm.models.reader import TrainedReader

        trained = TrainedReader(encoder, model, device=self.model_device())
        return trained if set(skills) == set(SKILLS) else SkilledReader(trained, plain, skills)

    def _model_of_new(self, encoder: Encoder) -> tuple[VideoTextModel, tuple[str, ...]] | None:
        """The model that a new library of the encoder would have, loaded once, with its skills."""
        folder = shipped_with(encoder.fingerprint)
        if folder is not None and self._new_model is None:
            from vlm.models.model import VideoTextModel

            model = VideoTextModel.from_pretrained(folder)
            self._new_model = model, skills_of(folder, model)
        return self._new_model

    def read_passport(self) -> passport.Passport | None:
        """What the library was made with; None before the first video."""
        if self._passport is None:
            text = self.store.meta("passport")
            self._passport = None if text is None else passport.Passport.from_json(str(text))
        return self._passport

    def held_passport(self) -> passport.Passport:
        """The same, where there is one."""
        held = self.read_passport()
        assert held is not None
        return held

    def spec_to_load(self) -> str | Encoder:
        """What to load: what the caller named, else the library's own, else the default."""
        if self._wanted_encoder is not None:
            return self._wanted_encoder
        held = self.read_passport()
        if held is None:
            return DEFAULT_ENCODER
        if not reopens_by_itself(held.encoder):
            raise UnknownEncoder(
                f"library {str(self.store.folder)!r} was made with the plug-in {held.encoder!r}, and a library never runs code of its own "
                f"choice: name it again with --encoder {held.encoder}"
            )
        return held.encoder

    def sampling(self) -> Sampling:
        """Which frames are looked at: the library's own choice, else the caller's, else one a second."""
        held = self.read_passport()
        return Sampling.parse(held.sampling) if held is not None else self._wanted_sampling or Sampling.parse(DEFAULT_SAMPLING)

    def sampling_for(self, encoder: Encoder) -> Sampling:
        """The same, once the encoder is known: one that reads windows says itself which, where the library has not said so before."""
        if self.read_passport() is None and isinstance(encoder, WindowEncoder):
            grid = encoder.window
            return Sampling.parse(f"windows:{grid.frames}/{grid.seconds:g}/{grid.stride:g}")
        return self.sampling()

    def refuse_other_sampling(self) -> None:
        """Raises EncoderMismatch where the caller wants another sampling than the library's."""
        held = self.read_passport()
        if held is not None and self._wanted_sampling is not None and str(self._wanted_sampling) != held.sampling:
            raise EncoderMismatch(
                f"library {str(self.store.folder)!r} samples {held.sampling}, not {self._wanted_sampling}: features of both cannot stand "
                "side by side. Leave the option out, or add to a new library"
            )

    def prepare_adding(self) -> tuple[Encoder, Sampling, segments.Pool]:
        """The encoder, found to be the library's own, the sampling, and what pools. Where there is no passport it is written, and the model
        that comes with vlm for the encoder, if any does, is attached. The caller holds the writer's lock."""
        encoder = self.load_encoder()
        held = self.read_passport()
        if held is None:
            sampling = self.sampling_for(encoder)
            issued = passport.issue(encoder, str(sampling))
            with self.store.transaction():
                self.store.set_meta("passport", issued.to_json())
            self._passport = issued
            if (model := shipped_with(encoder.fingerprint)) is not None:
                self.slot.attach(model, issued, device=self.model_device())
            return encoder, sampling, self.pool()
        passport.check_frames(held, encoder)
        return encoder, Sampling.parse(held.sampling), self.pool()

    def pool(self) -> segments.Pool:
        """The trained model's adapter, or the mean where there is no model."""
        model = self.model
        if model is None:
            return segments.pool
        from vlm.index.adapted import AdapterPool

        return AdapterPool(model, device=self.model_device())

    def checked_texts(self) -> Encoder:
        """The encoder, its texts found to be those that the library was made with; looked at once.

        Raises:
            EncoderMismatch: they are others.
        """
        encoder = self.load_encoder()
        if not self._texts_checked:
            with one_thread():
                passport.check_texts(self.held_passport(), encoder)
            self._texts_checked = True
        return encoder

    def text_vectors(self, encoder: Encoder) -> EncodeTexts:
        """What makes vectors of texts that can be compared with the segments'."""
        model = self.model
        if model is None:
            return encoder.encode_text
        from vlm.models.reader import TrainedReader

        return TrainedReader(encoder, model, device=self.model_device()).embed_texts

    def confidence(self, encoder: Encoder, index: VectorIndex | None = None) -> Confidence | None:
        """What the library's scores are worth; None where it has too few segments to say. Measured when first needed and after changes,
        and kept in the library where nobody is writing it. ``index`` is the vector index, which is else opened where it is needed."""
        from vlm.index import background, confidence

        key = {
            "generation": self.store.generation if index is None else index.generation,
            "encoder": encoder.fingerprint,
            "model": self._model_digest(),
            "sentences": background.VERSION,
        }

        def make() -> Confidence | None:
            if not confidence.has_enough(self.store):
                return None
            texts = self.background(encoder)
            held = self.index_cache().current(probe_texts=self.text_vectors(encoder)) if index is None else index
            return confidence.measure(self.store, held, texts)

        if self._confidence is None or self._confidence[0] != key:
            self._confidence = key, confidence.kept(self.store, key, make, may_write=self._may_keep)
        return self._confidence[1]

    def background(self, encoder: Encoder) -> NDArray[np.float32]:
        """Unit vectors (n, d) of the background sentences, comparable with the segments'; read once for the encoder and the model, and kept
        in the library where nobody is writing it."""
        from vlm.index import background

        def make() -> NDArray[np.float32]:
            with one_thread():
                return self.text_vectors(encoder)(background.background(encoder))

        return background.kept(self.store, encoder, self._model_digest(), make, may_write=self._may_keep)

    def refresh_confidence(self) -> None:
        """Measures anew what the library's scores are worth, where it has changed and the encoder is loaded: so that no search waits."""
        if self._encoder is not None and self.read_passport() is not None:
            self.confidence(self._encoder)

    def _may_keep(self) -> bool:
        return not self.store.read_only and self.lock.free_to_write()

    def _model_digest(self) -> str | None:
        attached = self.slot.held()
        return None if attached is None else attached.digest

    def model_device(self) -> str:
        """Where the trained model runs: on the encoder's GPU, where it has one."""
        device = str(getattr(self._encoder, "device", "cpu"))
        return device if device.startswith("cuda") else "cpu"

    def index_cache(self) -> IndexCache:
        """The vector index on disk."""
        from vlm.index.cache import IndexCache

        if self._cache is None:
            held = self.read_passport()
            self._cache = IndexCache(self.store, self.lock, dim=None if held is None else held.dim, device=self._index_device)
        elif self._cache.dim is None and (held := self.read_passport()) is not None:
            self._cache.dim = held.dim
        return self._cache

    def probe_texts(self) -> EncodeTexts | None:
        """What a large index is tuned by; None where no encoder is loaded."""
        return None if self._encoder is None else self.text_vectors(self._encoder)

    def refresh_index(self) -> list[str]:
        """Brings the vector index up to date and saves it. It is a cache: failing to save it loses nothing, but is told."""
        try:
            self.index_cache().current(probe_texts=self.probe_texts(), save=True)
        except OSError as error:
            return [f"the vector index could not be saved ({error}); searches build it anew until it can"]
        return []

    def refuse_read_only(self) -> None:
        """Raises LibraryReadOnly where the library cannot be written."""
        if self.store.read_only:
            raise LibraryReadOnly(f"library {str(self.store.folder)!r} cannot be written: it was opened read-only, or its folder is")
