"""Hits go to editors and other tools: real files at every rate, LAST and queries, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.app.running import Vlm
from tests.app.test_full_disk import RUN
from tests.conftest import BLOCKS
from tests.media import scene_video
from vlm import Library
from vlm.data.formats.chapters import read_chapters
from vlm.data.formats.edl import read_edl
from vlm.data.formats.fiftyone import read_fiftyone
from vlm.data.formats.framed import FramedMoment
from vlm.data.formats.otio import read_otio
from vlm.data.formats.qvhighlights import read_submissions
from vlm.data.toybox.files import render_files
from vlm.index.last import LAST_FILE

RATES = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "59.94": Fraction(60000, 1001),
    "variable": None,
}
READERS: dict[str, Callable[[Path], tuple[FramedMoment, ...]]] = {"edl": read_edl, "otio": read_otio, "fiftyone": read_fiftyone}


@dataclass(frozen=True)
class Toys:
    """A library of Toybox files by the name of their rate."""

    library: Path
    files: dict[str, Path]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    folder = tmp_path_factory.mktemp("toys")
    files = {}
    for seed, (name, rate) in enumerate(RATES.items()):
        (made,) = render_files(folder / name, videos=1, seed=seed, size=32, frame_rate=rate, vfr=rate is None, workers=1)
        files[name] = made.path
    with Library.open(folder / "library", encoder=BLOCKS) as library:
        library.add(list(files.values()))
    return Toys(folder / "library", files)


def frames_shown(path: Path) -> tuple[list[float], float]:
    """When the frames of a file begin, decoded in full by PyAV, and when the last one ends."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = sorted(float(frame.pts * frame.time_base) for frame in frames if frame.pts is not None)
    return times, times[-1] + 1.0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", READERS)
def test_every_format_holds_just_the_frames_on_screen_during_the_hits(vlm: Vlm, toys: Toys, tmp_path: Path, rate: str, name: str):
    path = toys.files[rate]
    vlm("ground", "red", path, "-k", 5, "-l", toys.library, "-e", BLOCKS)
    vlm("export", "LAST", "--format", name, "-o", tmp_path / "out", "-l", toys.library)
    last = json.loads((toys.library / LAST_FILE).read_text())["moments"]
    times, _ = frames_shown(path)
    found = READERS[name](tmp_path / "out")
    assert len(found) == len(last) > 0
    for one, moment in zip(found, last, strict=True):
        # The frame on screen at the start, and all that begin before the end.
        shown = [index for index, time in enumerate(times) if time < moment["end"] and ([*times, 1e9][index + 1] > moment["start"])]
        assert list(range(one.frames.first, one.frames.last)) == shown
        assert one.found.span.start == moment["start"]
        assert one.frames.is_variable == (rate == "variable")
        assert one.frames.drop_frame == (rate in ("29.97", "59.94"))
        assert RATES[rate] in (None, one.frames.rate)


def test_chapters_of_several_videos_are_a_file_each(vlm: Vlm, toys: Toys, tmp_path: Path):
    done = vlm("search", "red", "-k", 3, "-l", toys.library, "-e", BLOCKS)
    vlm("export", "LAST", "--format", "chapters", "-o", tmp_path / "out", "-l", toys.library)
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [
        f"{number:02}_{Path(row[5]).stem}.ffmetadata" for number, row in enumerate(done.rows(), start=1)
    ]
    for path, row in zip(files, done.rows(), strict=True):
        (one,) = read_chapters(path)
        assert (f"{one.found.span.start:.3f}", one.found.video) == (row[2], row[5])
    refused = vlm("export", "LAST", "--format", "chapters", "-l", toys.library, code=1)
    assert "moments of 3" in refused.err


def test_a_submission_has_the_spans_of_the_hits(vlm: Vlm, colour_library: Path, tmp_path: Path):
    done = vlm("search", "white", "-k", 2, "-l", colour_library, "-e", BLOCKS)
    vlm("export", "LAST", "--format", "qvhighlights", "-o", tmp_path / "out.jsonl", "-l", colour_library)
    told = [(f"{one.windows[0].window.start:.3f}", one.video_id) for one in read_submissions(tmp_path / "out.jsonl")]
    assert told == [(row[2], row[5]) for row in done.rows()]


def test_a_query_is_searched_and_written_to_stdout(vlm: Vlm, colour_library: Path):
    done = vlm("export", "white", "colour", "-k", 1, "--format", "edl", "-l", colour_library, "-e", BLOCKS)
    assert done.out.startswith("TITLE: vlm\nFCM: NON-DROP FRAME\n\n001  AX ")
    assert "* FROM CLIP NAME: blue then white.mp4" in done.out
    assert "10 frames/s, a rate that few editors know" in done.err


def test_json_tells_what_was_written(vlm: Vlm, toys: Toys, tmp_path: Path):
    vlm("search", "red", "--path", f"*/{toys.files['variable'].parent.parent.name}/*", "-k", 1, "-l", toys.library, "-e", BLOCKS)
    done = vlm("export", "LAST", "--format", "edl", "-o", tmp_path / "a.edl", "-l", toys.library, "--json")
    told = json.loads(done.out)
    assert (told["schema"], told["result"], told["format"], told["clips"]) == ("vlm.export/1", "last", "edl", None)
    assert told["output"] == {"path": str(tmp_path / "a.edl")}
    (moment,) = told["moments"]
    assert moment["path"] == str(toys.files["variable"])
    assert moment["frames"]["is_variable"]
    assert f"{moment['frames']['timecode_in']} {moment['frames']['timecode_out']} " in (tmp_path / "a.edl").read_text()
    assert "variable frame rate" in told["warnings"][0]
    assert told["warnings"][0] in done.err


def test_clips_are_cut_from_what_was_found_last(vlm: Vlm, colour_library: Path, tmp_path: Path):
    vlm("search", "white", "-k", 3, "-l", colour_library, "-e", BLOCKS)
    vlm("export", "LAST", "--hits", "1,3", "--clips", tmp_path / "clips", "-l", colour_library)
    assert [path.name[:3] for path in sorted((tmp_path / "clips").iterdir())] == ["01_", "03_"]


def test_moments_of_several_queries_keep_their_queries(vlm: Vlm, colour_library: Path, colour_videos: Path, tmp_path: Path):
    video = colour_videos / "blue then white.mp4"
    vlm("ground", "blue", video, "--also", "white", "-k", 1, "-l", colour_library, "-e", BLOCKS)
    vlm("export", "LAST", "--format", "fiftyone", "-o", tmp_path / "a", "--clips", tmp_path / "clips", "-l", colour_library)
    assert [(one.found.query, one.found.rank) for one in read_fiftyone(tmp_path / "a")] == [("blue", 1), ("white", 1)]
    assert [path.name[:6] for path in sorted((tmp_path / "clips").iterdir())] == ["q1_01_", "q2_01_"]


def test_a_file_outside_the_library_is_exported_as_it_was_read(
    vlm: Vlm, own_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    scene_video(tmp_path / "other.mp4", [("black", 3), ("green", 3)])
    vlm("ground", "green", "other.mp4", "-k", 1, "-l", own_library, "-e", BLOCKS)
    monkeypatch.chdir("/")
    vlm("export", "LAST", "--format", "edl", "-o", tmp_path / "a.edl", "-l", own_library)
    (one,) = read_edl(tmp_path / "a.edl")
    assert (one.found.video, one.frames.rate) == (str(tmp_path / "other.mp4"), 10)
    scene_video(tmp_path / "other.mp4", [("black", 4)])
    assert "has changed since it was read" in vlm("export", "LAST", "--format", "edl", "-l", own_library, code=1).err
    (tmp_path / "other.mp4").unlink()
    assert "no file of" in vlm("export", "LAST", "--format", "edl", "-l", own_library, code=1).err


def test_the_timecode_of_the_camera_is_counted_on(vlm: Vlm, tmp_path: Path):
    path = tmp_path / "camera.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.metadata["timecode"] = "00:59:59;28"
        for number in range(90):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with Library.open(tmp_path / "lib", encoder=BLOCKS) as library:
        library.add(path)
    done = vlm("export", "black", "--format", "edl", "-l", tmp_path / "lib", "-e", BLOCKS)
    # Two frames of the hour are left; 88 more lead to 01:00:02;28.
    assert "00:59:59;28 01:00:02;28 01:00:00;00 01:00:03;00" in done.out
    plain = vlm("export", "black", "--format", "edl", "--no-drop-frame", "-l", tmp_path / "lib", "-e", BLOCKS)
    assert "FCM: NON-DROP FRAME" in plain.out


def test_drop_frame_is_refused_at_rates_that_do_not_know_it(vlm: Vlm, toys: Toys):
    vlm("ground", "red", toys.files["25"], "-k", 1, "-l", toys.library, "-e", BLOCKS)
    done = vlm("export", "LAST", "--format", "edl", "--drop-frame", "-l", toys.library, code=1)
    assert f"hit 1, '{toys.files['25']}': drop-frame timecode counts 29.97" in done.err
    assert "got 25: leave drop-frame out" in done.err


def test_hits_of_several_rates_are_refused_in_an_edl(vlm: Vlm, toys: Toys):
    vlm("search", "red", "-k", 5, "-l", toys.library, "-e", BLOCKS)
    done = vlm("export", "LAST", "--format", "edl", "-l", toys.library, code=1)
    assert "an EDL counts frames at one rate" in done.err
    vlm("export", "LAST", "--format", "edl", "--hits", "2", "-l", toys.library)


def test_without_a_last_result_the_command_says_what_to_do(vlm: Vlm, own_library: Path):
    done = vlm("export", "LAST", "--format", "edl", "-l", own_library, code=1)
    assert "has no last result yet: run vlm search or vlm ground first" in done.err


def test_a_last_result_that_found_nothing_is_no_hit(vlm: Vlm, own_library: Path):
    vlm("search", "red", "--path", "*.nothing", "-l", own_library, "-e", BLOCKS, code=4)
    done = vlm("export", "LAST", "--format", "edl", "-l", own_library, code=4)
    assert "nothing to export: the last result has no hit" in done.err
    assert json.loads(vlm("export", "LAST", "--clips", "x", "-l", own_library, "--json", code=4).out)["moments"] == []


@pytest.mark.parametrize("text", ["{", '{"schema": "vlm.last/9"}', '{"schema": "vlm.last/1", "stamps": []}'])
def test_a_damaged_last_result_is_told(vlm: Vlm, own_library: Path, text: str):
    (own_library / LAST_FILE).write_text(text)
    assert LAST_FILE in vlm("export", "LAST", "--format", "edl", "-l", own_library, code=1).err


def test_a_hit_whose_file_has_gone_or_changed_is_told(vlm: Vlm, own_library: Path, videos: Path, tmp_path: Path):
    vlm("search", "red", "-k", 3, "-l", own_library, "-e", BLOCKS)
    (videos / "red.mp4").unlink()
    done = vlm("export", "LAST", "--format", "edl", "-o", tmp_path / "a.edl", "-l", own_library, code=1)
    assert f"hit 1: no file of '{videos / 'red.mp4'}' is left" in done.err
    assert "leave the hit out (--hits)" in done.err
    assert not (tmp_path / "a.edl").exists()
    scene_video(videos / "red.mp4", [("black", 6)])
    assert "has changed since it was added" in vlm("export", "LAST", "--format", "otio", "-l", own_library, code=1).err


def test_a_hit_whose_video_left_the_library_is_told(vlm: Vlm, own_library: Path):
    vlm("search", "red", "-k", 1, "-l", own_library, "-e", BLOCKS)
    vlm("rm", json.loads((own_library / LAST_FILE).read_text())["moments"][0]["video_id"], "-l", own_library, "--yes")
    assert "holds no video" in vlm("export", "LAST", "--format", "edl", "-l", own_library, code=1).err


def test_what_exists_is_never_overwritten(vlm: Vlm, colour_library: Path, tmp_path: Path):
    (tmp_path / "a.edl").write_text("mine")
    done = vlm("export", "red", "--format", "edl", "-o", tmp_path / "a.edl", "-l", colour_library, "-e", BLOCKS, code=1)
    assert "exists and is never overwritten" in done.err
    assert (tmp_path / "a.edl").read_text() == "mine"
    (tmp_path / "clips").mkdir()
    assert "exists" in vlm("export", "red", "--clips", tmp_path / "clips", "-l", colour_library, "-e", BLOCKS, code=1).err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["LAST"], "--format"),
        (["LAST", "--format", "xml"], "'xml' is not one of"),
        (["LAST", "--format", "edl", "-k", "3"], "LAST is taken as it was found"),
        (["LAST", "--clips", "new", "-o", "file"], "--output"),
        (["LAST", "--format", "edl", "--json"], "both would go to stdout"),
        (["LAST", "--format", "otio", "--drop-frame"], "timecodes stand in an EDL alone"),
        (["LAST", "--format", "edl", "--hits", "3-1"], "names no hits"),
        (["LAST", "--format", "edl", "--hits", "one"], "names no hits"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(vlm: Vlm, colour_library: Path, words: list[str], told: str):
    err = vlm("export", *words, "-l", colour_library, code=2).err
    assert told in " ".join(err.replace("│", " ").split())


def test_a_hit_that_is_not_there_is_told(vlm: Vlm, own_library: Path):
    vlm("search", "red", "-k", 2, "-l", own_library, "-e", BLOCKS)
    assert (
        "there is no hit 7 to export: the ranks are 1 to 2"
        in vlm("export", "LAST", "--format", "edl", "--hits", "1-2,7", "-l", own_library, code=1).err
    )


def test_a_library_that_takes_no_file_is_searched_all_the_same(vlm: Vlm, own_library: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*paths: object) -> None:
        raise OSError(28, os.strerror(28))

    vlm("search", "red", "-k", 1, "-l", own_library, "-e", BLOCKS)
    before = (own_library / LAST_FILE).read_bytes()
    monkeypatch.setattr("vlm.index.last.os.replace", full)
    done = vlm("search", "green", "-k", 1, "-l", own_library, "-e", BLOCKS)
    assert len(done.rows()) == 1
    assert "not kept for vlm export LAST" in done.err
    assert (own_library / LAST_FILE).read_bytes() == before
    assert not list(own_library.glob(".last*"))


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(own_library: Path, tmp_path: Path):
    there = ["-l", str(own_library), "-e", BLOCKS]
    jobs = [
        (name, str(tmp_path / name), ["export", "white", "-k", "1", "--format", name, "-o", str(tmp_path / name), *there])
        for name in ("edl", "otio", "qvhighlights", "fiftyone")
    ]
    one = str(tmp_path / "chapters" / "01_blue then white.ffmetadata")
    jobs.append(("chapters", one, ["export", "white", "-k", "1", "--format", "chapters", "-o", str(tmp_path / "chapters"), *there]))
    done = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(jobs), capture_output=True, text=True, check=True)
    for name, end in json.loads(done.stdout).items():
        last = end["err"].splitlines()[-1]
        assert (end["was_full"], end["code"]) == (True, 1), (name, end)
        assert last.startswith("error: ")
        assert last.endswith("cannot be written: File too large")
        assert not (tmp_path / name).exists()
