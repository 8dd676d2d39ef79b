"""Learning from a user's rows on real pixels: joins of two clips of ../shared, with the offline encoder that has seen the real world."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import PHOTO
from vlm import Library
from vlm.encoders.registry import load_encoder
from vlm.models.plain import Reader
from vlm.spans import temporal_iou
from vlm.train.own import train_own
from vlm.train.recipe import recipe_path
from vlm.types import Span

SIZE = 224
NUM_JOINS = 12


def seconds_of(path: Path) -> list[np.ndarray]:
    """A frame for each of the first seconds, squashed to the encoder's size; six at most."""
    found: list[np.ndarray] = []
    with av.open(str(path), metadata_errors="replace") as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= len(found):
                found.append(frame.reformat(SIZE, SIZE, "rgb24").to_ndarray())
            if len(found) == 6:
                break
    return found


def write_video(path: Path, pictures: list[np.ndarray]) -> None:
    """The pictures at two frames a second, each for one second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=2, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for picture in pictures:
            for _ in range(2):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.fixture(scope="module")
def joins(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos, each of two clips one after the other, and ``mine.jsonl`` with the captions of both and their spans."""
    folder = tmp_path_factory.mktemp("joins")
    rows = [json.loads(line) for line in (shared / "data/clips/captions.jsonl").read_text().splitlines()]
    distinct = [row for row in rows if "_asl_" not in row["file"] and row["file"] != "mdn_flower.webm"]
    lines = []
    for number, (one, other) in enumerate(zip(distinct[:NUM_JOINS], distinct[NUM_JOINS : 2 * NUM_JOINS], strict=True)):
        pictures: list[np.ndarray] = []
        for row in (one, other):
            begin = len(pictures)
            pictures += seconds_of(shared / "data/clips" / row["file"])
            caption = re.sub(r"\(.*?\)", "", row["caption"]).strip()
            lines.append({"path": f"{number}.mp4", "start": begin, "end": len(pictures), "caption": caption})
        write_video(folder / f"{number}.mp4", pictures)
    (folder / "mine.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def ranks(library: Library, rows: list[dict], folder: Path) -> list[float]:
    """One over the rank of the video of each caption."""
    found = []
    for row in rows:
        hits = library.search(row["caption"], top_k=NUM_JOINS)
        found.append(1 / next(hit.rank for hit in hits if hit.path == str(folder / row["path"])))
    return found


def grounded(library: Library, reader: Reader, rows: list[dict], folder: Path) -> list[float]:
    """How well the best moment of each caption is its span: IoU."""
    found = []
    for row in rows:
        features = library.features(library.resolve(str(folder / row["path"])))
        moments = reader.ground([row["caption"]], features)[0].moments
        found.append(temporal_iou(moments[0].span, Span(row["start"], row["end"])) if moments else 0.0)
    return found


def test_a_library_of_real_clips_learns_from_captions_and_gets_no_worse(joins: Path, tmp_path: Path):
    photo = load_encoder(PHOTO)
    rows = [json.loads(line) for line in (joins / "mine.jsonl").read_text().splitlines()]
    recipe = tmp_path / "own.toml"
    text = recipe_path("own").read_text().replace("least_held_out = 10", "least_held_out = 4").replace("held_out = 0.2", "held_out = 0.25")
    recipe.write_text(text)
    with Library.open(tmp_path / "lib", encoder=photo) as library:
        library.add(joins)
        plain = library.reader()
        before = ranks(library, rows, joins), grounded(library, plain, rows, joins)
        report = train_own(library, [joins / "mine.jsonl"], recipe, tmp_path / "out", seed=0, steps=40)
        assert (report.rows.videos, report.rows.span_captions) == (NUM_JOINS, 2 * NUM_JOINS)
        judged = {one.ability: one for one in report.judged}
        assert set(judged) == {"search", "ground"}
        assert judged["search"].rows == judged["ground"].rows == 6
        library.attach(report.folder)
        assert library.verify() == []
        after = ranks(library, rows, joins), grounded(library, library.reader(), rows, joins)
    for what, was, now in zip(("reciprocal rank", "IoU"), before, after, strict=True):
        print(f"{what} {np.mean(was):.2f} -> {np.mean(now):.2f}")
    assert np.mean(after[0]) >= np.mean(before[0])
    assert np.mean(after[1]) >= np.mean(before[1])
