"""``vlm toybox render``: files, truth and annotations that belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.app.running import Vlm
from vlm.data.formats import qvhighlights
from vlm.data.toybox.plan import make_world
from vlm.video.probe import probe

SMALL = ("--videos", 2, "--size", 32, "--fps", 5)


def truths(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "truth.jsonl").read_text("utf-8").splitlines()]


def test_videos_truth_and_annotations_tell_of_the_same_worlds(vlm: Vlm, tmp_path: Path):
    rows = vlm("toybox", "render", tmp_path / "toys", *SMALL, "--seed", 7, "--split", "val").rows()
    worlds = [make_world(7, number, split="val") for number in range(2)]
    assert [row[3] for row in rows] == [world.name for world in worlds]
    assert [float(row[1]) for row in rows] == pytest.approx([world.seconds for world in worlds], abs=0.2)
    assert [truth["name"] for truth in truths(tmp_path / "toys")] == [world.name for world in worlds]
    queries = qvhighlights.read_queries(next((tmp_path / "toys/annotations/qvhighlights").iterdir())).rows
    assert {query.video_id for query in queries} <= {Path(row[0]).stem for row in rows}


@pytest.mark.parametrize("codec", ["h264", "vp9", "mpeg4", "mjpeg"])
def test_every_codec_writes_files_that_read_back(vlm: Vlm, tmp_path: Path, codec: str):
    rows = vlm("toybox", "render", tmp_path / "toys", "--videos", 1, "--size", 32, "--fps", 5, "--codec", codec, "--vfr").rows()
    info = probe(rows[0][0])
    assert info.codec.startswith(codec)
    assert (info.height, info.width) == (32, 32)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--videos", 0), "0"),
        (("--split", "held-out"), "'held-out'"),
        (("--codec", "theora"), "'theora'"),
        (("--size", 8), "8"),
        (("--size", 33), "33"),
        (("--fps", 0), "0"),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_name_and_leaves_nothing(vlm: Vlm, tmp_path: Path, options: tuple[object, ...], named: str):
    done = vlm("toybox", "render", tmp_path / "toys", *options, code=1)
    assert named in done.err
    assert not (tmp_path / "toys").exists()


def test_a_folder_that_holds_something_is_never_written_to(vlm: Vlm, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    done = vlm("toybox", "render", tmp_path, *SMALL, code=1)
    assert str(tmp_path) in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
