"""What the commands of the suite's models share: the options, the model, and the rows of a video as the model reads them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from vlm.app.options import library_folder

if TYPE_CHECKING:
    from vlm.encoders.base import Encoder
    from vlm.index.footage import Footage

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


class ReadsFrames(Protocol):
    """What a config says of the frames that its model reads."""

    @property
    def encoder(self) -> str:
        """The encoder's name."""

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint."""

    @property
    def frames_per_second(self) -> float:
        """The rate."""


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


def _encoder_of(config: ReadsFrames, named: str | None, device: str) -> Encoder:
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
