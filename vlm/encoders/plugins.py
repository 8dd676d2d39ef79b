"""Encoders from outside: found, loaded, and checked at every call, so that a mistake is told by the plug-in's name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np
import xxhash
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, Preprocessing, TextTokens, TowerAccess, WindowEncoder
from vlm.errors import BadVectors, EncoderError, UnknownEncoder

GROUP = "vlm.encoders"
REQUIRED = ("name", "fingerprint", "dim", "preprocessing", "encode_frames", "encode_text")
OPTIONAL = ("thread_safe", "languages", "unread_text", "precision", "scope", "unfamiliar", "unknown_words")
UNIT_TOLERANCE = 1e-3


def installed_plugins() -> dict[str, str]:
    """Names of the installed plug-ins and what they refer to; nothing is imported."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def load_installed(name: str, *, device: str = "auto") -> Encoder:
    """The encoder of the entry point ``name``.

    Raises:
        UnknownEncoder: no such entry point. EncoderError: it cannot be imported or gives no encoder.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise UnknownEncoder(f"no plug-in {name!r} is installed; installed are {', '.join(installed_plugins()) or 'none'}")
    try:
        factory = found[0].load()
    except (ImportError, AttributeError) as error:
        raise EncoderError(f"plug-in {name!r} ({found[0].value}) cannot be imported: {error}") from error
    return _made(name, factory, device)


def load_python(spec: str, *, device: str = "auto") -> Encoder:
    """The encoder of ``python:MODULE:FACTORY`` or ``python:FILE.py:FACTORY``, a relative file being looked for where you stand.

    Raises:
        UnknownEncoder: no such module, file or factory. EncoderError: it gives no encoder.
    """
    place, _, factory_name = spec.removeprefix("python:").rpartition(":")
    if not place or not factory_name.isidentifier():
        raise UnknownEncoder(f"encoder {spec!r} needs the form python:MODULE:FACTORY or python:FILE.py:FACTORY")
    module = _file_module(Path(place), spec) if place.endswith(".py") or "/" in place else _named_module(place, spec)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UnknownEncoder(f"encoder {spec!r}: {place} has no factory {factory_name!r}; it has {', '.join(public) or 'none'}")
    return _made(spec, factory, device)


def _named_module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnknownEncoder(f"encoder {spec!r}: module {name!r} cannot be imported: {error}") from error


def _file_module(path: Path, spec: str) -> ModuleType:
    """The module in ``path``. Its folder can be imported from while it is loaded, behind everything that is installed."""
    file = path.expanduser().resolve()
    if not file.is_file():
        raise UnknownEncoder(f"encoder {spec!r}: there is no file {str(file)!r}")
    # A name of its own: two files of one name do not meet, and dataclasses find their module.
    name = f"vlm_plugin_{file.stem}_{xxhash.xxh3_64_hexdigest(str(file).encode())}"
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise UnknownEncoder(f"encoder {spec!r}: {str(file)!r} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    sys.path.append(str(file.parent))
    try:
        found.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise EncoderError(f"encoder {spec!r}: {str(file)!r} needs what cannot be imported: {error}") from error
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module


def _made(spec: str, factory: Callable[..., object], device: str) -> Encoder:
    takes_device = "device" in inspect.signature(factory).parameters
    made = factory(device=device) if takes_device else factory()
    missing = [name for name in REQUIRED if not hasattr(made, name)]
    if missing:
        raise EncoderError(
            f"plug-in {spec!r} made a {type(made).__name__} without {', '.join(missing)}; an encoder needs {', '.join(REQUIRED)}"
        )
    assert isinstance(made, Encoder)
    return checked(made, name=spec)


def checked(encoder: Encoder, *, name: str | None = None) -> Encoder:
    """``encoder`` behind a check of everything that it gives: shape, float32, finite, unit length.

    ``load_encoder`` wraps every plug-in so; call it for an encoder object that a user hands in.

    Raises:
        EncoderError: dim, fingerprint or preprocessing are not what they must be.
    """
    return encoder if isinstance(encoder, CheckedEncoder) else CheckedEncoder(encoder, name=name or encoder.name)


class CheckedEncoder:
    """A plug-in whose vectors are checked. Window methods, per-token text and tower access are there where the plug-in has them."""

    def __init__(self, encoder: Encoder, *, name: str) -> None:
        self._encoder = encoder
        self._name = name
        if not isinstance(encoder.dim, int) or encoder.dim < 1:
            raise EncoderError(f"plug-in {name!r}: dim must be a positive int, got {encoder.dim!r}")
        if not isinstance(encoder.fingerprint, str) or not encoder.fingerprint:
            raise EncoderError(f"plug-in {name!r}: fingerprint must be a text that names the weights, got {encoder.fingerprint!r}")
        if not isinstance(encoder.preprocessing, Preprocessing):
            raise EncoderError(f"plug-in {name!r}: preprocessing must be a vlm.encoders.base.Preprocessing, got {encoder.preprocessing!r}")
        # Set on the instance, since the Protocols ask whether an object has them.
        if isinstance(encoder, WindowEncoder):
            self.window = encoder.window
            self.encode_windows = self._encode_windows
        if hasattr(encoder, "encode_text_tokens"):
            self.encode_text_tokens = self._encode_text_tokens
        towers = [name for name in vars(TowerAccess) if not name.startswith("_")] if isinstance(encoder, TowerAccess) else []
        for attribute in (*OPTIONAL, *towers):
            if hasattr(encoder, attribute):
                setattr(self, attribute, getattr(encoder, attribute))

    @property
    def name(self) -> str:
        """The spec that loads this encoder again."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """As the plug-in says."""
        return self._encoder.fingerprint

    @property
    def dim(self) -> int:
        """Width d of the shared space."""
        return self._encoder.dim

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames must come in."""
        return self._encoder.preprocessing

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (n, d), or BadVectors that names the plug-in."""
        return self._unit(self._encoder.encode_frames(frames), len(frames), "encode_frames")

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d), or BadVectors that names the plug-in."""
        return self._unit(self._encoder.encode_text(texts), len(texts), "encode_text")

    def _encode_windows(self, frames: NDArray[np.uint8], times: NDArray[np.float64]) -> NDArray[np.float32]:
        assert isinstance(self._encoder, WindowEncoder)
        return self._unit(self._encoder.encode_windows(frames, times), len(frames), "encode_windows")

    def _encode_text_tokens(self, texts: Sequence[str]) -> TextTokens:
        tokens: TextTokens = self._encoder.encode_text_tokens(texts)  # type: ignore[attr-defined]  # asked for in __init__
        vectors, mask = np.asarray(tokens.vectors), np.asarray(tokens.mask)
        if vectors.ndim != 3 or vectors.shape[0] != len(texts) or vectors.shape[2] != self.dim or mask.shape != vectors.shape[:2]:
            raise self._bad(
                "encode_text_tokens",
                f"vectors {vectors.shape} and mask {mask.shape} for {len(texts)} texts, not (n, q, {self.dim}) and (n, q)",
            )
        if vectors.dtype != np.float32 or mask.dtype != np.bool_:
            raise self._bad("encode_text_tokens", f"{vectors.dtype} vectors and a {mask.dtype} mask, not float32 and bool")
        if not np.isfinite(vectors).all() or vectors[~mask].any():
            raise self._bad("encode_text_tokens", "vectors that are not finite, or not zero outside the mask")
        return tokens

    def _unit(self, vectors: NDArray[np.float32], rows: int, method: str) -> NDArray[np.float32]:
        if not isinstance(vectors, np.ndarray) or vectors.shape != (rows, self.dim):
            raise self._bad(method, f"{getattr(vectors, 'shape', type(vectors).__name__)} for {rows} inputs, not ({rows}, {self.dim})")
        if vectors.dtype != np.float32:
            raise self._bad(method, f"{vectors.dtype}, not float32")
        lengths = np.linalg.norm(vectors, axis=1)
        wrong = ~(np.abs(lengths - 1) <= UNIT_TOLERANCE)  # NaN is wrong too
        if wrong.any():
            row = int(np.argmax(wrong))
            raise self._bad(method, f"row {row} with length {lengths[row]:g}, not 1")
        return vectors

    def _bad(self, method: str, what: str) -> BadVectors:
        return BadVectors(f"plug-in {self._name!r}: {method} gave {what}")
