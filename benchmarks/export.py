"""How many frames exported hits are off after they went out and came back, at every rate and in every format.

    python -m benchmarks.export --out runs/export --spans 500 --json docs/results/export.json

Toybox files are rendered at each rate. Random spans become moments with frames by the steps of ``vlm export``, and each format writes and
reads them. The oracle is another reader: PyAV decodes each file in full, and a span has the frames that are on screen at some time of it.
Frames off are those by which the first or the last one differs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vlm.app.framing import framed_moments
from vlm.data.formats.chapters import read_chapters, write_chapters
from vlm.data.formats.edl import MOST_EVENTS, read_edl, write_edl
from vlm.data.formats.fiftyone import read_fiftyone, write_fiftyone
from vlm.data.formats.found import FoundMoment
from vlm.data.formats.framed import FramedMoment
from vlm.data.formats.otio import read_otio, write_otio
from vlm.data.toybox.files import render_files
from vlm.types import Span

RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97 drop-frame": Fraction(30000, 1001),
    "50": Fraction(50),
    "59.94 drop-frame": Fraction(60000, 1001),
    "variable": None,
}
CODECS = {"h264": ".mp4", "vp9": ".webm"}
FORMATS: dict[str, tuple[Callable[..., None], Callable[[Path], tuple[FramedMoment, ...]]]] = {
    "edl": (write_edl, read_edl),
    "otio": (write_otio, read_otio),
    "chapters": (write_chapters, read_chapters),
    "fiftyone": (write_fiftyone, read_fiftyone),
}


def decoded(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return sorted(float(frame.pts * frame.time_base) for frame in container.decode(video=0) if frame.pts is not None)


def moments_of(path: Path, times: list[float], number: int, seed: int) -> list[FoundMoment]:
    """Random spans; half of them begin and end with frames, as hits do."""
    dice = np.random.default_rng(seed)
    found = []
    while len(found) < number:
        if len(found) % 2:
            start, end = sorted(dice.choice(times, 2, replace=False).tolist())
        else:
            start, end = sorted(dice.uniform(0, times[-1], 2).tolist())
        if end > start:
            found.append(FoundMoment(query="x", video=str(path), span=Span(start, end), score=0.0, rank=len(found) + 1, video_id=1))
    return found


def frames_off(framed: tuple[FramedMoment, ...], times: list[float]) -> int:
    """Frames by which the first and the last ones differ from what is on screen."""
    ends = [*times[1:], float("inf")]
    off = 0
    for one in framed:
        span = one.found.span
        shown = [place for place, time in enumerate(times) if time < span.end and ends[place] > span.start]
        off += abs(one.frames.first - shown[0]) + abs(one.frames.last - 1 - shown[-1])
    return off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder for the files")
    parser.add_argument("--spans", type=int, default=500, help=f"random spans of each file, at most {MOST_EVENTS}")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    found: dict[str, dict[str, int]] = {}
    print(f"| rate, file | spans | frames off: {', '.join(FORMATS)} |\n|---|---|---|")
    for seed, (name, rate) in enumerate(RATES.items()):
        for codec, suffix in CODECS.items():
            folder = given.out / f"{seed}{suffix}"
            (made,) = render_files(folder, videos=1, seed=seed, codec=codec, size=32, frame_rate=rate, vfr=rate is None, workers=1)
            times = decoded(made.path)
            moments = moments_of(made.path, times, given.spans, seed)
            framed = framed_moments(moments, {1: (str(made.path), "")}, drop_frame=None)
            row = {}
            for kind, (write, read) in FORMATS.items():
                with tempfile.TemporaryDirectory() as place:
                    write(Path(place) / "file", framed)
                    back = read(Path(place) / "file")
                row[kind] = frames_off(back, times) + abs(len(back) - len(moments)) * 10**6
            found[f"{name}, {made.path.suffix}"] = row
            print(
                f"| {name}, {made.path.suffix} ({len(times)} frames) | {len(moments)} | {', '.join(map(str, row.values()))} |", flush=True
            )
    if given.json is not None:
        given.json.write_text(json.dumps({"spans": given.spans, "frames_off": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
