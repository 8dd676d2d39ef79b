"""Every error that vlm raises on purpose, in one tree.

    VlmError
    ├── InputError (ValueError)      an argument breaks its rule
    │   ├── SpanError                a time span that is none
    │   └── QueryError               a query that cannot be searched
    │       └── GrammarError         a query about time that is none
    ├── VideoError                   one file cannot be used; others can
    │   ├── VideoUnreadable          missing, no permission, not a regular file, vanished while read, input/output error
    │   ├── NotAVideo                no container that the decoder knows, or no bytes at all
    │   ├── NoVideoStream            a container without a picture stream (audio only)
    │   ├── UndecodableVideo         a picture stream that gives no frame
    │   ├── DecoderStalled           no progress before the deadline; the child was ended
    │   ├── DecoderCrashed           native code ended the child
    │   └── VideoUnwritable          a file that cannot be written: no space, no permission
    ├── EncoderError                 a model cannot be used
    │   ├── UnknownEncoder           a spec that names nothing
    │   ├── WeightsUnavailable       weights neither on disk nor to be downloaded
    │   ├── BackendUnavailable       an optional package or a device is missing
    │   ├── EncoderMismatch          two parts made for different encoders
    │   └── BadVectors               NaN, infinite or collapsed vectors
    ├── TrainingError                a training cannot go on
    │   ├── CheckpointUnusable       missing, damaged, or of another recipe
    │   ├── CheckpointUnsaved        no space, no permission; the one before remains
    │   ├── TrainingDiverged         the loss is NaN or infinite
    │   └── TrainingTooLarge         a step does not fit the memory of its device
    └── LibraryError                 a library cannot be used as asked
        ├── LibraryNotFound
        ├── LibraryBusy              another process is writing
        ├── LibraryReadOnly
        ├── LibraryTooNew            written by a later format
        ├── LibraryDamaged
        ├── LibraryFull              no space left on the disk
        └── UnknownVideo             an id that the library does not hold

A message names the argument, the value, the rule and the way out.
"""

from __future__ import annotations


class VlmError(Exception):
    """Base of every error that vlm raises on purpose."""


class InputError(VlmError, ValueError):
    """An argument breaks its rule."""


class SpanError(InputError):
    """A time span that is none: not finite, negative, or empty."""


class QueryError(InputError):
    """A query that cannot be searched."""


class GrammarError(QueryError):
    """A query about time that the grammar does not know.

    Attributes:
        query, position: the query, and the number of the character, from 0 on, at which it went wrong.
        rule: the rule of the grammar that was expected there.
    """

    def __init__(self, message: str, query: str, position: int, rule: str) -> None:
        super().__init__(f"character {position + 1} of the query: {message} (rule {rule})")
        self.query, self.position, self.rule = query, position, rule


class NoWords(QueryError):
    """An open question to a model that has no words of its own."""


class VideoError(VlmError):
    """One file cannot be used; the others can."""


class VideoUnreadable(VideoError):
    """Missing, no permission, not a regular file, vanished while being read, or an input/output error."""


class NotAVideo(VideoError):
    """No container that the decoder knows, or no bytes at all."""


class NoVideoStream(VideoError):
    """A container without a picture stream."""


class UndecodableVideo(VideoError):
    """A picture stream that gives no frame."""


class DecoderStalled(VideoError):
    """No progress before the deadline; the decoding child was ended."""


class DecoderCrashed(VideoError):
    """Native code ended the decoding child."""


class VideoUnwritable(VideoError):
    """A file that cannot be written: no space, no permission."""


class EncoderError(VlmError):
    """A model cannot be used."""


class UnknownEncoder(EncoderError, InputError):
    """A spec that names no encoder."""


class WeightsUnavailable(EncoderError):
    """Weights that are neither on disk nor to be downloaded."""


class BackendUnavailable(EncoderError):
    """An optional package or a device is missing."""


class EncoderMismatch(EncoderError):
    """Two parts that were made for different encoders."""


class BadVectors(EncoderError):
    """An encoder gave NaN, infinite or collapsed vectors."""


class TrainingError(VlmError):
    """A training cannot go on."""


class CheckpointUnusable(TrainingError):
    """A checkpoint that is missing, damaged, or made by another recipe."""


class CheckpointUnsaved(TrainingError):
    """A checkpoint that cannot be written: no space, no permission; the one before remains."""


class TrainingDiverged(TrainingError):
    """The loss is NaN or infinite."""


class TrainingTooLarge(TrainingError):
    """A step does not fit the memory of its device."""


class LibraryError(VlmError):
    """A library cannot be used as asked."""


class LibraryNotFound(LibraryError):
    """The folder holds no library."""


class LibraryBusy(LibraryError):
    """Another process is writing to the library."""


class LibraryReadOnly(LibraryError):
    """The library cannot be written: opened read-only, or its folder is."""


class LibraryTooNew(LibraryError):
    """The library was written by a later format than this version reads."""


class LibraryDamaged(LibraryError):
    """The library's SQLite file is damaged or is not one."""


class LibraryFull(LibraryError):
    """No space is left on the library's disk."""


class UnknownVideo(LibraryError, InputError):
    """An id that the library does not hold."""
