"""``vlm list``, ``show``, ``rm`` and ``stats``: what a library holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_json, emit_row, note, printable, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import JsonOption, LibraryOption, VideosArgument, library_folder
from vlm.app.render import Column, byte_size, clock_time, count, duration, print_facts, print_table, share

if TYPE_CHECKING:
    from vlm.index.library import Library
    from vlm.index.records import LibraryStats, Quarantined, VideoRecord


def list_videos(
    library: LibraryOption = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="List the files that could not be added, with their reasons.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the videos of a library."""
    from vlm.app import schemas, schemas_catalog
    from vlm.index.library import Library

    folder = library_folder(library)
    with Library.open(folder, create=False) as held:
        place = schemas.PlaceOutput.of(str(folder))
        if quarantined:
            files = held.quarantined()
            if as_json:
                emit_json(
                    schemas_catalog.QuarantineOutput(library=place, files=[schemas_catalog.QuarantinedOutput.of(file) for file in files])
                )
            else:
                _print_quarantined(files)
            return
        videos = held.videos()
        if as_json:
            emit_json(schemas_catalog.ListOutput(library=place, videos=[schemas_catalog.VideoOutput.of(video) for video in videos]))
        else:
            _print_videos(videos, num_quarantined=len(held.quarantined()))


def _print_quarantined(files: list[Quarantined]) -> None:
    if not results_go_to_people():
        for file in files:
            emit_row(file.path, file.error, file.at, file.reason)
    elif files:
        for file in files:
            print_facts([("file", file.path), ("error", f"{file.error} at {file.at}"), ("reason", file.reason), ("", "")])
    else:
        note("no file is in quarantine")


def _print_videos(videos: list[VideoRecord], *, num_quarantined: int) -> None:
    if not results_go_to_people():
        for video in videos:
            emit_row(video.video_id, f"{video.duration_seconds:.3f}", f"{video.coverage:.3f}", video.num_segments, video.path)
        return
    if videos:
        rows = [
            [
                str(v.video_id),
                clock_time(round(v.duration_seconds)),
                share(v.coverage),
                str(v.num_segments),
                v.path or "(no file left)",
            ]
            for v in videos
        ]
        numbers = [Column(title, numbers=True) for title in ("id", "length", "decoded", "segments")]
        print_table([*numbers, Column("video")], rows)
    summary = f"{count(len(videos), 'video')}, {duration(sum(v.duration_seconds for v in videos))}"
    if num_quarantined:
        summary += f"; {count(num_quarantined, 'file')} could not be added (vlm list --quarantined)"
    note(summary)


def show(
    reference: Annotated[str, typer.Argument(metavar="ID|PATH", path_type=str, readable=False, help="A video, by id or by path.")],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that a library knows of one video."""
    from vlm.app import schemas, schemas_catalog
    from vlm.index.library import Library

    folder = library_folder(library)
    with Library.open(folder, create=False) as held:
        video = held.video(held.resolve(reference))
        num_thumbnails = len(held.thumbnails(video.video_id))
    if as_json:
        place = schemas.PlaceOutput.of(str(folder))
        emit_json(schemas_catalog.ShowOutput(library=place, video=schemas_catalog.VideoOutput.of(video), num_thumbnails=num_thumbnails))
        return
    facts = _video_facts(video, num_thumbnails)
    if results_go_to_people():
        print_facts(facts)
    else:
        for name, value in facts:
            emit_row(name, value)


def _video_facts(video: VideoRecord, num_thumbnails: int) -> list[tuple[str, str]]:
    rate = "unknown" if video.frame_rate is None else f"{video.frame_rate:g} frames/s"
    turned = f", turned by {video.rotation_degrees}°" if video.rotation_degrees else ""
    return [
        ("id", str(video.video_id)),
        *((("path" if i == 0 else "also at"), f"{place.path}") for i, place in enumerate(video.locations)),
        ("size", byte_size(video.locations[0].num_bytes) if video.locations else "no file left"),
        ("length", f"{clock_time(round(video.duration_seconds))} ({video.duration_seconds:.3f} s)"),
        ("decoded", f"{share(video.coverage)}, up to {video.end_seconds:.3f} s" + (f": {video.reason}" if video.reason else "")),
        ("picture", f"{video.width} x {video.height}, {rate}{turned}"),
        ("format", f"{video.codec} in {video.container}"),
        ("features", f"{count(video.num_rows, 'row')}, {count(video.num_segments, 'segment')}, {count(num_thumbnails, 'thumbnail')}"),
        ("added", video.added_at),
        ("SHA-256", video.digest),
    ]


def remove(
    references: VideosArgument = None,
    library: LibraryOption = None,
    missing: Annotated[bool, typer.Option("--missing", help="Remove every video of which no file is left.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --missing: remove without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove videos from a library. The files themselves are never touched."""
    from vlm.app import schemas, schemas_catalog
    from vlm.index.library import Library

    if bool(references) == missing:
        raise typer.BadParameter("name videos by id or path, or give --missing; not both", param_hint="ID|PATH")
    folder = library_folder(library)
    with Library.open(folder, create=False) as held:
        if missing:
            chosen = videos_without_files(held)
            if chosen and not yes:
                _ask_for_consent(chosen)
        else:
            chosen = [held.video(i) for i in dict.fromkeys(held.resolve(reference) for reference in references or [])]
        held.remove([video.video_id for video in chosen])
    if as_json:
        removed = [schemas_catalog.RemovedOutput.of(video) for video in chosen]
        emit_json(schemas_catalog.RemoveOutput(library=schemas.PlaceOutput.of(str(folder)), removed=removed))
        return
    for video in chosen:
        if results_go_to_people():
            note(f"removed video {video.video_id}: {video.path or '(no file left)'}")
        else:
            emit_row(video.video_id, video.path)
    if not chosen:
        note("every video still has a file: nothing was removed")


def videos_without_files(library: Library) -> list[VideoRecord]:
    """The videos of which no location holds a file any more."""
    gone = set(library.changed_files().missing)
    return [video for video in library.videos() if all(place.path in gone for place in video.locations)]


def _ask_for_consent(chosen: list[VideoRecord]) -> None:
    folders = {str(Path(video.path).parent) for video in chosen if video.path}
    absent = sorted(folder for folder in folders if not os.path.isdir(folder))
    for video in chosen:
        note(f"no file left of video {video.video_id}: {video.path or '(none known)'}")
    if absent:
        warn(f"{absent[0]} is not there at all: is a disk not mounted? Removed videos must be encoded again")
    if not sys.stdin.isatty():
        note(f"{count(len(chosen), 'video')} would be removed; repeat with --yes to remove")
        raise typer.Exit(ExitCode.USAGE)
    if not typer.confirm(f"Remove {count(len(chosen), 'video')} from the library?", err=True):
        raise typer.Exit(ExitCode.OK)


def stats(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Show the size of a library and what it was made with."""
    from vlm.app import schemas_catalog
    from vlm.index.library import Library

    with Library.open(library_folder(library), create=False) as held:
        sizes = held.stats()
    if as_json:
        emit_json(schemas_catalog.StatsOutput.of(sizes))
        return
    facts = _library_facts(sizes)
    if results_go_to_people():
        print_facts(facts)
    else:
        for name, value in facts:
            emit_row(name, value)


def _library_facts(sizes: LibraryStats) -> list[tuple[str, str]]:
    model = "none yet" if sizes.encoder is None else f"{sizes.encoder} ({sizes.dim} wide, fingerprint {(sizes.fingerprint or '')[:12]})"
    unfinished = f", {sizes.num_unfinished:,} unfinished (the next vlm add goes on with them)" if sizes.num_unfinished else ""
    return [
        ("library", f"{printable(sizes.path)} ({sizes.library_id})"),
        ("videos", f"{sizes.num_videos:,} at {count(sizes.num_locations, 'path')}{unfinished}"),
        ("length", duration(3600 * sizes.hours)),
        ("model", model),
        *([] if sizes.model is None else [("trained", f"{sizes.model} (vlm detach takes it out)")]),
        ("sampling", sizes.sampling or "none yet"),
        ("features", f"{count(sizes.num_rows, 'row')}, {count(sizes.num_segments, 'segment')}"),
        ("index", f"{sizes.index}, generation {sizes.generation}"),
        ("disk", f"{byte_size(sizes.library_bytes)} library, {byte_size(sizes.index_bytes)} index"),
        ("quarantine", count(sizes.num_quarantined, "file")),
    ]
