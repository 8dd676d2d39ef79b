"""What an ``add`` would cost, before it is run: hours of video, minutes on this machine, bytes to download and to store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vlm.encoders.base import Encoder, WindowEncoder
from vlm.encoders.presets import download_plan, find_preset
from vlm.encoders.registry import load_encoder
from vlm.errors import VideoError
from vlm.index.records import AddEstimate
from vlm.index.scan import FileEntry, Scan
from vlm.index.store import Store
from vlm.types import Frames, Framing, VideoInfo
from vlm.video.sample import Sampling
from vlm.video.supervise import DecodeRequest, SupervisedDecoder

SAMPLE_FILES = 3
SAMPLE_SECONDS = 4.0
_ENCODE_ROWS = 16
# Per row: a float16 vector and its timestamp; a third more for segments; a thumbnail of about 4 kB for every ten rows.
_BYTES_PER_ROW_BESIDE_VECTOR = 8 + 400


def estimate(store: Store | None, scan: Scan, spec: str | Encoder, sampling: Sampling, *, device: str) -> AddEstimate:
    """Hours, minutes and bytes for the new files of ``scan``. Nothing is downloaded and nothing is written.

    Decoding is timed for a few seconds on some of the files; encoding on generated frames where the weights are here, else it is taken
    from the preset's table.
    """
    new = [f for f in scan.files if not _is_known(store, f)]
    infos = _probe_all(new)
    readable = [(entry, info) for entry, info in zip(new, infos, strict=True) if isinstance(info, VideoInfo)]
    unreadable = [(os.fsdecode(u.path), u.reason) for u in scan.unusable]
    unreadable += [(os.fsdecode(entry.path), str(info)) for entry, info in zip(new, infos, strict=True) if isinstance(info, VideoError)]
    seconds = sum(info.promised_seconds or 0.0 for _, info in readable)
    num_rows = round(sum(_rows(sampling, info) for _, info in readable))
    plan = download_plan(spec) if isinstance(spec, str) else None
    encoder = spec if not isinstance(spec, str) else load_encoder(spec, device=device) if plan is None or plan.cached else None
    encode_rate, source = _encode_rate(encoder, spec)
    framing = encoder.preprocessing.framing if encoder is not None else Framing(height=224, width=224)
    decode_rate = _decode_rate([entry for entry, _ in readable], sampling, framing)
    minutes = None
    if encode_rate and decode_rate:
        # Decoding keeps one core busy per file worker, encoding all of them: on shared cores the times add up.
        minutes = num_rows * (1 / decode_rate + 1 / encode_rate) / 60
    dim = encoder.dim if encoder is not None else plan.dim if plan is not None and plan.dim else 512
    folder = store.folder if store is not None else None
    return AddEstimate(
        num_files=len(scan.files),
        num_new=len(new),
        unreadable=tuple(unreadable),
        hours_of_video=seconds / 3600,
        num_rows=num_rows,
        minutes=minutes,
        speed_source=source,
        download_bytes=0 if plan is None or plan.cached else plan.num_bytes,
        library_bytes=round(num_rows * (2 * dim * 4 / 3 + _BYTES_PER_ROW_BESIDE_VECTOR)),
        free_bytes=shutil.disk_usage(folder or ".").free,
    )


def _is_known(store: Store | None, entry: FileEntry) -> bool:
    known = None if store is None else store.find_location(entry.path)
    return known is not None and known[1] == entry.stamp and known[2]


def _probe_all(entries: Sequence[FileEntry]) -> list[VideoInfo | VideoError]:
    """The header of every file, or why there is none, read in supervised children on all cores."""
    workers = max(1, min(os.cpu_count() or 1, len(entries)))

    def probe_some(part: Sequence[FileEntry]) -> list[VideoInfo | VideoError]:
        with SupervisedDecoder(deadline_seconds=20) as decoder:
            return [_probe_one(decoder, entry) for entry in part]

    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(probe_some, [entries[i::workers] for i in range(workers)])
    by_entry = {entry.path: info for i, part in enumerate(parts) for entry, info in zip(entries[i::workers], part, strict=True)}
    return [by_entry[entry.path] for entry in entries]


def _probe_one(decoder: SupervisedDecoder, entry: FileEntry) -> VideoInfo | VideoError:
    try:
        return decoder.probe(entry.path)
    except VideoError as error:
        return error


def _rows(sampling: Sampling, info: VideoInfo) -> float:
    seconds = info.promised_seconds or 0.0
    if sampling.policy == "every":
        return max(1.0, seconds * float(sampling.parameters[0]))
    if sampling.policy == "uniform":
        return float(sampling.parameters[0])
    if sampling.policy == "windows":
        return max(1.0, seconds / float(sampling.parameters[2]))
    return max(1.0, seconds / 5)  # a keyframe every five seconds is usual


def _decode_rate(entries: Sequence[FileEntry], sampling: Sampling, framing: Framing) -> float | None:
    """Rows a second that all cores decode together, timed on a spread of the files."""
    chosen = [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, SAMPLE_FILES).round().astype(int))] if entries else []
    rows, seconds = 0, 0.0
    with SupervisedDecoder(threads=1, deadline_seconds=20) as decoder:
        for entry in chosen:
            begin = time.perf_counter()
            request = DecodeRequest(path=entry.path, digest="", sampling=sampling, framing=framing, thumbnail_seconds=0, batch_rows=4)
            try:
                for item in decoder.decode(request):
                    rows += len(item.pts) if isinstance(item, Frames) else 0
                    if time.perf_counter() - begin > SAMPLE_SECONDS:
                        break
            except VideoError:
                continue
            seconds += time.perf_counter() - begin
    return rows / seconds * (os.cpu_count() or 1) if rows else None


def _encode_rate(encoder: Encoder | None, spec: str | Encoder) -> tuple[float | None, str]:
    """Rows a second that the encoder takes, and where the figure comes from."""
    if encoder is None:
        preset = find_preset(spec) if isinstance(spec, str) else None
        if preset is None or not preset.measured:
            return None, "unknown before the weights are here"
        slowest = min(preset.measured, key=lambda m: m.frames_per_second)  # a table's machine is not this one: promise the least of it
        return slowest.frames_per_second, f"decoding timed here, encoding as measured on {slowest.machine}"
    framing = encoder.preprocessing.framing
    pixels = np.random.default_rng(0).integers(0, 256, (_ENCODE_ROWS, framing.height, framing.width, 3), dtype=np.uint8)

    def encode() -> None:
        if isinstance(encoder, WindowEncoder):
            count = encoder.window.frames
            encoder.encode_windows(np.repeat(pixels[:4, None], count, axis=1), np.tile(np.arange(count, dtype=np.float64) / count, (4, 1)))
        else:
            encoder.encode_frames(pixels)

    encode()
    begin = time.perf_counter()
    encode()
    rows = 4 if isinstance(encoder, WindowEncoder) else _ENCODE_ROWS
    return rows / (time.perf_counter() - begin), "decoding and encoding timed here"
