"""``vlm add``: from files and folders to a library that can be searched; with ``--dry-run``, what that would cost."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_json, emit_row, hint, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, EncoderOption, LibraryOption, library_folder
from vlm.app.progress import AddDisplay
from vlm.app.render import byte_size, count, duration, print_facts, share
from vlm.errors import InputError

if TYPE_CHECKING:
    from vlm.index.records import AddEstimate, AddEvent, AddReport, FileDone
    from vlm.index.scan import Scan

_LONGEST_LIST = 20
_ON_INTERRUPT = "run the same command again to go on from there"


def add(
    paths: Annotated[list[str], typer.Argument(metavar="PATHS", path_type=str, readable=False, help="Videos, and folders of them.")],
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    fps: Annotated[float | None, typer.Option("--fps", metavar="RATE", help="Frames a second to look at, by default 1.")] = None,
    sampling: Annotated[
        str | None,
        typer.Option("--sampling", metavar="POLICY", help="Which frames to look at: every:FPS, uniform:COUNT or keyframes."),
    ] = None,
    device: DeviceOption = "auto",
    retry: Annotated[bool, typer.Option("--retry", help="Try files in quarantine again although they have not changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would cost, and add nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON (docs/json.md) per file, and a report.")] = False,
) -> None:
    """Add videos to a library: new ones, changed ones, and those that an earlier run left unfinished.

    Ctrl-C loses nothing: the same command goes on from there.
    """
    from vlm.index.scan import scan

    policy = _sampling_policy(fps, sampling)
    if not all(paths):
        raise typer.BadParameter("one of the paths is empty", param_hint="PATHS")
    folder = library_folder(library)
    found = scan(paths)
    if not found.files:
        raise InputError(_why_nothing(found))
    if dry_run:
        estimate = _estimate(found, paths, folder, encoder, policy, device)
        _print_estimate(estimate, folder, as_json)
        raise typer.Exit(ExitCode.PARTIAL if estimate.num_unreadable else ExitCode.OK)
    try:
        report = _add(paths, folder, encoder, policy, device, retry=retry, as_json=as_json)
    except KeyboardInterrupt:
        note(f"interrupted; all that was committed is kept: {_ON_INTERRUPT}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _print_report(report, folder, as_json)
    if report.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if report.partial or report.with_status("quarantined"):
        raise typer.Exit(ExitCode.PARTIAL)


def _sampling_policy(fps: float | None, sampling: str | None) -> str | None:
    """The policy that the options ask for, checked; None where they leave it to the library."""
    from vlm.video.sample import Sampling

    if fps is not None and sampling is not None:
        raise typer.BadParameter("give --fps or --sampling, not both: --fps 2 is --sampling every:2", param_hint="--fps")
    text = f"every:{fps!r}" if fps is not None else sampling
    if text is None:
        return None
    try:
        return str(Sampling.parse(text))
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--fps" if fps is not None else "--sampling") from error


def _why_nothing(found: Scan) -> str:
    if found.unusable:
        first = found.unusable[0]
        more = f" (and {count(len(found.unusable) - 1, 'other path')} cannot be used)" if len(found.unusable) > 1 else ""
        return f"cannot read {os.fsdecode(first.path)!r}: {first.reason}{more}"
    if found.ignored:
        return f"no video among {count(found.ignored, 'file')}: none has a video's extension. A file that you name itself is always tried"
    return "the folder holds no file"


def _add(paths: list[str], folder: Path, encoder: str | None, policy: str | None, device: str, *, retry: bool, as_json: bool) -> AddReport:
    from vlm.app.schemas_add import AddFileOutput
    from vlm.index.library import Library
    from vlm.index.records import AddProgress

    lines = as_json or not results_go_to_people()

    with (
        Library.open(folder, encoder=encoder, sampling=policy, device=device) as library,
        AddDisplay(visible=not (lines and results_go_to_people())) as display,
    ):
        _announce_download(encoder or library.encoder_spec)

        def on_event(event: AddEvent) -> None:
            if isinstance(event, AddProgress):
                display.update(event)
            elif as_json:
                emit_json(AddFileOutput.of(event), indent=None)
            elif lines:
                emit_row(event.status, event.video_id, f"{event.coverage:.3f}", event.path, event.reason)

        return library.add(paths, retry=retry, on_event=on_event)


def _announce_download(spec: str | None) -> None:
    """Says what will be downloaded where, and under which licence, before it is."""
    from vlm.encoders.presets import download_plan
    from vlm.encoders.registry import DEFAULT_ENCODER

    plan = download_plan(spec or DEFAULT_ENCODER)
    if plan is not None and not plan.cached:
        size = byte_size(plan.num_bytes) if plan.num_bytes else "an unknown size"
        note(f"model {plan.spec}: downloading {size} once to {plan.folder} (licence: {plan.licence})")


def _print_report(report: AddReport, folder: Path, as_json: bool) -> None:
    from vlm.app.schemas_add import AddReportOutput

    if as_json:
        emit_json(AddReportOutput.of(report, library=str(folder)), indent=None)
    _list_problems("could not be added", report.with_status("quarantined"))
    _list_problems("could only partly be decoded", report.partial)
    for warning in report.warnings:
        warn(warning)
    statuses = Counter(file.status for file in report.files)
    words = ", ".join(f"{number:,} {status}" for status, number in statuses.items()) or "no file settled"
    if report.num_rows and report.elapsed_seconds > 0:
        speed = f"{report.num_rows / report.elapsed_seconds:.0f} frames/s"
        words += f"; {duration(report.seconds_of_video)} of video in {duration(report.elapsed_seconds)}, {speed}"
    note(words)
    if report.ignored_files:
        hint(f"{count(report.ignored_files, 'file')} in the folders passed over: no video by name")
    if report.interrupted:
        note(f"interrupted; what is finished can be searched, and the rest is kept: {_ON_INTERRUPT}")


def _list_problems(title: str, files: tuple[FileDone, ...]) -> None:
    if not files:
        return
    note(f"{count(len(files), 'file')} {title}:")
    for file in files[:_LONGEST_LIST]:
        coverage = f"{share(file.coverage)} decoded: " if file.video_id is not None else ""
        name = "" if repr(file.path) in file.reason else f"{file.path}: "
        note(f"  {name}{coverage}{file.reason}")
    if len(files) > _LONGEST_LIST:
        note(f"  and {len(files) - _LONGEST_LIST:,} more")


def _estimate(found: Scan, paths: list[str], folder: Path, encoder: str | None, policy: str | None, device: str) -> AddEstimate:
    """The cost of adding; where there is no library yet, none is made for it."""
    from vlm.encoders.registry import DEFAULT_ENCODER
    from vlm.errors import LibraryNotFound
    from vlm.index.equipment import DEFAULT_SAMPLING
    from vlm.index.estimate import estimate
    from vlm.index.library import Library
    from vlm.video.sample import Sampling

    try:
        with Library.open(folder, encoder=encoder, sampling=policy, device=device, create=False) as library:
            return library.estimate(paths)
    except LibraryNotFound:
        cost = estimate(None, found, encoder or DEFAULT_ENCODER, Sampling.parse(policy or DEFAULT_SAMPLING), device=device)
        return replace(cost, free_bytes=shutil.disk_usage(_nearest_folder(folder)).free)


def _nearest_folder(folder: Path) -> Path:
    """The folder itself, or the next one above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def _print_estimate(estimate: AddEstimate, folder: Path, as_json: bool) -> None:
    from vlm.app.schemas_add import AddEstimateOutput

    if as_json:
        emit_json(AddEstimateOutput.of(estimate, library=str(folder)))
    else:
        facts = _cost_facts(estimate)
        if results_go_to_people():
            print_facts(facts)
        else:
            for name, value in facts:
                emit_row(name, value)
        for path, reason in estimate.unreadable[:_LONGEST_LIST]:
            note(f"cannot be read: {reason if repr(path) in reason else f'{path}: {reason}'}")
    needed = estimate.library_bytes + estimate.download_bytes
    if needed > estimate.free_bytes:
        warn(f"{byte_size(needed)} are needed and {byte_size(estimate.free_bytes)} are free")


def _cost_facts(estimate: AddEstimate) -> list[tuple[str, str]]:
    known = estimate.num_files - estimate.num_new
    time_needed = "no estimate" if estimate.minutes is None else f"about {duration(60 * estimate.minutes)}"
    unreadable = f", {estimate.num_unreadable:,} that cannot be read" if estimate.num_unreadable else ""
    return [
        ("files", f"{estimate.num_new:,} new, {known:,} known{unreadable}"),
        ("video", f"{duration(3600 * estimate.hours_of_video)}, {count(estimate.num_rows, 'frame')} to look at"),
        ("time here", f"{time_needed} ({estimate.speed_source})"),
        ("download", byte_size(estimate.download_bytes) if estimate.download_bytes else "nothing"),
        ("disk", f"{byte_size(estimate.library_bytes)} of {byte_size(estimate.free_bytes)} free"),
    ]
