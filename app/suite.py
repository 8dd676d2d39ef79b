"""What the commands of the suite's models share: the options, the model and the rows of a video as it reads them, and how results leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from vlm.app.console import emit_row, results_go_to_people, warn
from vlm.app.options import library_folder
from vlm.app.out import Format, put, write_found
from vlm.app.render import Column, print_table
from vlm.data.formats.found import FoundMoment

if TYPE_CHECKING:
    from vlm.app.schemas import Output
    from vlm.encoders.base import Encoder
    from vlm.index.footage import Footage
    from vlm.models.suite.clip_classes import Recognises
    from vlm.models.suite.folder import SavedModel
    from vlm.types import Span

M = TypeVar("M", bound="SavedModel")

ModelOption = Annotated[
    str, typer.Option("--model", metavar="FOLDER", help="A model that `python -m vlm.train` made, or owner/name of the Hugging Face hub.")
]
VideoArgument = Annotated[str, typer.Argument(metavar="VIDEO", help="A video file, or a video of the library by its id.")]
SuiteLibraryOption = Annotated[
    str | None,
    typer.Option(
        "--library",
        "-l",
        metavar="DIR",
        path_type=str,
        readable=False,
        envvar="VLM_LIBRARY",
        help="Folder of the library, whose stored rows are read. Default for an id: a folder of your user account.",
    ),
]
SuiteEncoderOption = Annotated[
    str | None, typer.Option("--encoder", "-e", metavar="SPEC", help="Where the model's own encoder is to be had; default: by its name.")
]


class NeedsEncoder(Protocol):
    """What a config says of the encoder that its model needs."""

    @property
    def encoder(self) -> str:
        """The encoder's name."""

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint."""


class ReadsFrames(NeedsEncoder, Protocol):
    """What a config says of the frames that its model reads."""

    @property
    def frames_per_second(self) -> float:
        """The rate."""


class Labelled(Protocol):
    """A stretch with a name and a score."""

    @property
    def label(self) -> str:
        """The name."""

    @property
    def span(self) -> Span:
        """The stretch."""

    @property
    def score(self) -> float:
        """How sure, in (0, 1]."""


class Watched(Protocol):
    """A video that a model has looked at."""

    @property
    def path(self) -> str:
        """Where its file lies."""

    @property
    def video_id(self) -> int | None:
        """Its id in the library; None for a file that is not of it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known of it, a sentence each."""


def open_recogniser(model: str, *, encoder: str | None, device: str) -> Recognises:
    """The recogniser of clips in the folder, or of the hub, on the device.

    Raises:
        WeightsUnavailable: there is no such model. Of one that stands on an encoder's tower, others as ``read_footage``.
    """
    from vlm.encoders.device import resolve_device
    from vlm.models.suite.folder import kind_of
    from vlm.models.suite.recognition import Recognizer
    from vlm.models.suite.timemamba import TimeMamba

    if kind_of(model) != TimeMamba.kind:
        return Recognizer.from_pretrained(model).to(resolve_device(device))
    held = TimeMamba.from_pretrained(model)
    return held.open(_encoder_of(held.config, encoder, device)).eval()


def model_and_footage(kind: type[M], model: str, video: str, *, library: str | None, encoder: str | None, device: str) -> tuple[M, Footage]:
    """The model in the folder, or of the hub, on the device, and the rows of a video as it reads them.

    Raises:
        WeightsUnavailable: there is no such model. Others as ``read_footage``.
    """
    from vlm.encoders.device import resolve_device

    held = kind.from_pretrained(model)
    footage = read_footage(held.config, video, library=library, encoder=encoder, device=device)
    return held.to(resolve_device(device)), footage


def tell(
    footage: Watched,
    chosen: Format,
    output: Path | None,
    *,
    columns: Sequence[Column],
    cells: Callable[[bool], Sequence[Sequence[str]]],
    document: Callable[[], Output],
    moments: Callable[[], Sequence[FoundMoment]] = tuple,
) -> None:
    """Write what a model found in the format that was asked for, and warn of what the footage says of itself.

    Args:
        cells: the rows of the table, for people (True) or for a pipe. columns: of the table for people.
        document: for ``--json``. moments: for the other formats, where a command has them.
    """
    if chosen is Format.TABLE:
        if results_go_to_people():
            print_table(columns, cells(True), paths=False)
        else:
            for row in cells(False):
                emit_row(*row)
    elif chosen is Format.JSON:
        put(document().model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        write_found(moments(), chosen, output)
    for warning in footage.notes:
        warn(warning)


def labelled_moments(found: Sequence[Labelled], footage: Watched) -> list[FoundMoment]:
    """Stretches as moments whose query is the label and whose rank is the place in the list."""
    return [
        FoundMoment(query=one.label, video=footage.path, span=one.span, score=one.score, rank=rank, video_id=footage.video_id)
        for rank, one in enumerate(found, start=1)
    ]


def read_footage(config: ReadsFrames, video: str, *, library: str | None, encoder: str | None, device: str) -> Footage:
    """The rows of a video by the encoder and at the rate of a model: those that a library stores where they are such, else read now.

    A file is read without a library, and nothing is left behind, unless a library is named.

    Raises:
        EncoderMismatch: the library, or ``encoder``, is another than the model's. UnknownEncoder: the model's encoder is a plug-in, which
            must be named. UnknownVideo, VideoError, LibraryError: as they say.
    """
    from vlm.index.footage import read_file
    from vlm.index.library import Library
    from vlm.models.suite.folder import check_encoder
    from vlm.video.sample import Sampling

    sampling = f"every:{config.frames_per_second:g}"
    if library is None and Path(video).is_file():
        return read_file(video, _encoder_of(config, encoder, device), Sampling.parse(sampling))
    with ExitStack() as stack:
        held = stack.enter_context(Library.open(library_folder(library), encoder=encoder, device=device, create=False))
        check_encoder(config.encoder, config.fingerprint, held.load_encoder())
        return held.footage_at(video, sampling)


def _encoder_of(config: NeedsEncoder, named: str | None, device: str) -> Encoder:
    from vlm.encoders.registry import load_encoder, reopens_by_itself
    from vlm.errors import UnknownEncoder
    from vlm.models.suite.folder import check_encoder

    if named is None and not reopens_by_itself(config.encoder):
        raise UnknownEncoder(
            f"this model was made for the plug-in {config.encoder!r}, and a model never runs code of its own choice: name it with "
            f"--encoder {config.encoder}"
        )
    encoder = load_encoder(named or config.encoder, device=device)
    check_encoder(config.encoder, config.fingerprint, encoder)
    return encoder
