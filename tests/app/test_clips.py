"""What was found is cut out of its files, into a new folder that nothing else is in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.app.running import Vlm
from tests.media import COLOURS, scene_video
from vlm import Library
from vlm.app.clips import _safe_stem, wider
from vlm.errors import DecoderCrashed, VideoUnwritable
from vlm.types import Span

Cutting = Callable[..., object]


def colours_of(path: Path) -> list[str]:
    """The colour that each frame of a clip shows most."""
    names, values = list(COLOURS), np.asarray(list(COLOURS.values()))
    with av.open(str(path)) as container:
        corners = [frame.to_ndarray(format="rgb24")[-1, -1].astype(int) for frame in container.decode(video=0)]
    return [names[int(np.abs(values - corner).sum(axis=1).argmin())] for corner in corners]


def clips_told(err: str) -> list[str]:
    return [line.removeprefix("clip: ") for line in err.splitlines() if line.startswith("clip: ")]


def test_every_hit_becomes_a_clip_of_its_stretch(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    folder = tmp_path / "clips"
    done = vlm("search", "white", "--library", colour_library, "--encoder", blocks, "-k", 2, "--no-second-look", "--clips", folder)
    rows = done.rows()
    names = [f"{int(row[0]):02}_{Path(row[5]).stem}_{float(row[2]):08.3f}-{float(row[3]):08.3f}.mp4" for row in rows]
    assert names[0].startswith("01_blue then white_00")
    assert clips_told(done.err) == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert set(colours_of(folder / names[0])) == {"white"}
    assert len(colours_of(folder / names[0])) == round((float(rows[0][3]) - float(rows[0][2])) * 10)


def test_json_stays_as_it_is(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    search = ("search", "red", "--library", colour_library, "--encoder", blocks, "-k", 1, "--json")
    plain, cut = (json.loads(vlm(*search, *more).out) for more in ((), ("--clips", tmp_path / "clips")))
    plain.pop("timings")
    cut.pop("timings")
    assert plain == cut


def test_a_copy_tells_what_was_really_cut(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    search = ("search", "green", "--library", colour_library, "--encoder", blocks, "-k", 1, "--clips", tmp_path / "clips", "--cut", "copy")
    done = vlm(*search)
    (clip,) = (tmp_path / "clips").iterdir()
    assert clip.suffix == ".mkv"
    assert "copied from 0.000 to 6.000 s\n" in done.err
    assert set(colours_of(clip)) == {"green"}


def test_a_copy_that_is_wider_than_asked_says_by_how_much(vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str, tmp_path: Path):
    video = colour_videos / "blue then white.mp4"
    with av.open(str(video)) as container:
        keyframes = [
            float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe and packet.pts is not None
        ]
    ground = ("ground", "blue", video, "--within", "3-6", "-k", 1, "-l", colour_library, "-e", blocks)
    done = vlm(*ground, "--clips", tmp_path / "copied", "--cut", "copy")
    ((_, _, start, end, _),) = done.rows()
    before = float(start) - max(second for second in keyframes if second <= float(start))
    assert before >= 1  # else this video is none to show it with
    told = next(line for line in done.err.splitlines() if line.startswith("copied from"))
    assert f"{before:.3f} s before it" in told
    assert "--cut exact" in told
    (clip,) = (tmp_path / "copied").iterdir()
    extra = len(colours_of(clip)) / 10 - (float(end) - float(start)) - before
    assert (f"{extra:.3f} s after it" in told) == (extra > 0)
    assert "before it" not in vlm(*ground, "--clips", tmp_path / "exact").err


@pytest.mark.parametrize(
    ("asked", "cut", "words"),
    [
        (Span(2, 4), Span(2, 4), ""),
        (Span(2, 4), Span(2.1, 3.9), ""),
        (Span(2, 4), Span(2 - 1e-4, 4 + 1e-4), ""),
        (Span(2, 4), Span(0.5, 4), ": the stretch, 1.500 s before it ("),
        (Span(2, 4), Span(2, 4.08), ": the stretch, 0.080 s after it ("),
        (Span(2, 4), Span(1, 4.5), ": the stretch, 1.000 s before it and 0.500 s after it ("),
    ],
)
def test_what_a_copy_shows_beyond_its_stretch_is_told_in_words(asked: Span, cut: Span, words: str):
    assert wider(asked, cut).startswith(words)
    assert bool(wider(asked, cut)) == bool(words)


def test_moments_of_several_queries_are_told_apart_by_their_number(
    vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str, tmp_path: Path
):
    video, folder = colour_videos / "blue then white.mp4", tmp_path / "clips"
    vlm("ground", "blue", video, "--also", "white", "-k", 1, "--library", colour_library, "--encoder", blocks, "--clips", folder)
    blue, white = sorted(folder.iterdir())
    assert (blue.name[:6], white.name[:6]) == ("q1_01_", "q2_01_")
    assert (set(colours_of(blue)), set(colours_of(white))) == ({"blue"}, {"white"})


def test_moments_of_a_file_outside_the_library_are_cut_too(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    video = scene_video(tmp_path / "other.mp4", [("black", 3), ("green", 3)])
    vlm("ground", "green", video, "-k", 1, "--library", colour_library, "--encoder", blocks, "--clips", tmp_path / "clips")
    (clip,) = (tmp_path / "clips").iterdir()
    assert clip.name.startswith("01_other_")
    assert set(colours_of(clip)) == {"green"}


@pytest.mark.parametrize("command", ["search", "ground"])
def test_what_exists_is_refused_before_anything_is_done(
    vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str, tmp_path: Path, command: str
):
    (tmp_path / "clips").mkdir()
    query = ("red", colour_videos / "red.mp4") if command == "ground" else ("red",)
    done = vlm(command, *query, "--library", colour_library, "--encoder", blocks, "--clips", tmp_path / "clips", code=1)
    assert f"{str(tmp_path / 'clips')!r} exists" in done.err
    assert done.out == ""
    assert list((tmp_path / "clips").iterdir()) == []
    done = vlm(command, *query, "--library", colour_library, "--encoder", blocks, "--clips", tmp_path / "no" / "clips", code=1)
    assert "there is no folder" in done.err


def test_files_that_went_or_changed_cost_their_own_clips_alone(vlm: Vlm, own_library: Path, videos: Path, blocks: str, tmp_path: Path):
    (videos / "green.mkv").unlink()
    scene_video(videos / "red.mp4", [("black", 6)])
    folder = tmp_path / "clips"
    done = vlm("search", "red", "--library", own_library, "--encoder", blocks, "--clips", folder, code=3)
    assert len(done.rows()) == 3
    assert [path.name[3:8] for path in folder.iterdir()] == ["blue "]
    assert "red.mp4' has changed since it was added" in done.err
    assert "no file of" in done.err


def test_a_copy_of_the_file_elsewhere_is_cut_in_its_place(vlm: Vlm, videos: Path, blocks: str, tmp_path: Path):
    (videos / "twin.mp4").write_bytes((videos / "red.mp4").read_bytes())
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        library.add(videos)
    (videos / "red.mp4").unlink()
    vlm("search", "red", "--library", tmp_path / "lib", "--encoder", blocks, "-k", 1, "--clips", tmp_path / "clips")
    assert [path.name[:7] for path in (tmp_path / "clips").iterdir()] == ["01_twin"]


def test_the_folder_goes_where_nothing_could_be_cut(vlm: Vlm, own_library: Path, videos: Path, blocks: str, tmp_path: Path):
    for path in videos.iterdir():
        path.unlink()
    vlm("search", "red", "--library", own_library, "--encoder", blocks, "--clips", tmp_path / "clips", code=3)
    assert not (tmp_path / "clips").exists()


def test_nothing_found_makes_no_folder(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    options = ("--library", colour_library, "--encoder", blocks, "--path", "*.nothing", "--clips", tmp_path / "clips")
    vlm("search", "red", *options, code=4)
    assert not (tmp_path / "clips").exists()


def test_a_full_disk_ends_the_command_and_leaves_no_empty_folder(
    vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: str, span: Span, target: Path, *, exact: bool) -> None:
        raise VideoUnwritable(f"{str(target.parent)!r} takes no clip: No space left on device")

    monkeypatch.setattr("vlm.video.cut.cut_supervised", full)
    done = vlm("search", "red", "--library", colour_library, "--encoder", blocks, "--clips", tmp_path / "clips", code=1)
    assert "No space left on device" in done.err
    assert not (tmp_path / "clips").exists()


def test_a_file_that_crashes_the_decoder_costs_its_own_clip_alone(
    vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from vlm.video.cut import cut_supervised

    def crashing(path: str, span: Span, target: Path, *, exact: bool) -> object:
        if "red" in path:
            raise DecoderCrashed(f"{path!r} crashed the decoder: signal SIGSEGV")
        return cut_supervised(path, span, target, exact=exact)

    monkeypatch.setattr("vlm.video.cut.cut_supervised", crashing)
    done = vlm("search", "red", "--library", colour_library, "--encoder", blocks, "-k", 2, "--clips", tmp_path / "clips", code=3)
    assert "SIGSEGV" in done.err
    assert len(clips_told(done.err)) == 1


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/films/holiday.mp4", "holiday"),
        ("/films/a: b?\n\x1b[31m.mkv", "a_ b___[31m"),
        (os.fsdecode(b"/films/caf\xe9.mp4"), "caf_"),
        ("/films/" + "x" * 200 + ".mp4", "x" * 80),
        ("/films/...", "video"),
    ],
)
def test_names_are_such_as_any_disk_takes(path: str, stem: str):
    assert _safe_stem(path) == stem


def test_a_long_name_of_wide_characters_fits_the_disk():
    assert len(_safe_stem("猫" * 200 + ".mp4").encode()) <= 180
