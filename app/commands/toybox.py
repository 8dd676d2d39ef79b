"""``vlm toybox``: videos whose truth is known, as real files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_row, note, results_go_to_people
from vlm.app.progress import CountDisplay
from vlm.app.render import byte_size, count, duration

if TYPE_CHECKING:
    from vlm.data.toybox.files import RenderedVideo

toybox = typer.Typer(
    help="Toybox: a drawn world of moving shapes whose truth is known (docs/toybox.md).", no_args_is_help=True, rich_markup_mode=None
)


@toybox.callback()
def _group() -> None:
    """Keeps ``render`` a command of its own although it is the only one."""


@toybox.command("render")
def render(
    folder: Annotated[str, typer.Argument(metavar="DIR", path_type=str, readable=False, help="A new folder, or an empty one.")],
    videos: Annotated[int, typer.Option("--videos", "-n", metavar="N", help="How many videos.")] = 24,
    seed: Annotated[int, typer.Option("--seed", metavar="SEED", help="The same seed makes the same videos everywhere.")] = 0,
    split: Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, val, or test: held-out compositions.")] = "train",
    codec: Annotated[str, typer.Option("--codec", metavar="CODEC", help="h264, vp9, mpeg4 or mjpeg.")] = "h264",
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="Height and width of the pictures.")] = 224,
    fps: Annotated[float | None, typer.Option("--fps", metavar="RATE", help="Frames a second; by default several rates.")] = None,
    vfr: Annotated[bool, typer.Option("--vfr", help="Variable frame rate, with gaps.")] = False,
) -> None:
    """Write videos of Toybox with their truth: truth.jsonl, and annotations in public formats.

    The videos are those of the world with number 0, 1, 2, ... of the seed and split.
    """
    from vlm.data.toybox.export import export
    from vlm.data.toybox.files import render_files
    from vlm.data.toybox.plan import make_world
    from vlm.data.toybox.truth import write_truth

    place = Path(folder).expanduser()
    with CountDisplay("videos") as display:
        rendered = render_files(
            place, videos=videos, seed=seed, split=split, codec=codec, size=size, frame_rate=fps, vfr=vfr, on_progress=display.update
        )
    worlds = [make_world(seed, number, split=split) for number in range(videos)]
    truth = place / "truth.jsonl"
    write_truth(truth, worlds)
    export(place, worlds, video_paths={video.world: video.path for video in rendered}, size=size)
    _print_rendered(rendered, place, truth)


def _print_rendered(rendered: tuple[RenderedVideo, ...], place: Path, truth: Path) -> None:
    if not results_go_to_people():
        for video in rendered:
            emit_row(video.path, f"{video.end_seconds:.3f}", len(video.times), video.world)
    seconds = sum(video.end_seconds for video in rendered)
    size = sum(video.path.stat().st_size for video in rendered)
    note(f"{count(len(rendered), 'video')}, {duration(seconds)}, {byte_size(size)}: {rendered[0].path.parent}")
    note(f"what is true of them: {truth}, and in public formats in {place / 'annotations'}")
