"""Results leave in the format that was asked for, and overwrite nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from vlm.app.out import Format, chosen_format, put, write_found
from vlm.data.formats.found import FoundMoment
from vlm.data.formats.srt import read_srt
from vlm.data.formats.webvtt import read_webvtt
from vlm.errors import InputError
from vlm.types import Span


def moment(video: str, video_id: int | None = 7) -> FoundMoment:
    return FoundMoment(query="a dog", video=video, span=Span(1.5, 4.0), score=0.25, rank=1, video_id=video_id)


def test_json_and_another_format_contradict_each_other():
    with pytest.raises(typer.BadParameter, match="csv"):
        chosen_format(Format.CSV, None, as_json=True)


def test_an_existing_file_is_refused_and_named(tmp_path: Path):
    (tmp_path / "found.csv").write_text("mine")
    with pytest.raises(InputError, match=r"found\.csv"):
        chosen_format(Format.CSV, tmp_path / "found.csv", as_json=False)
    with pytest.raises(InputError, match=r"found\.csv"):
        put("yours", tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_text() == "mine"


def test_subtitles_of_several_videos_go_into_a_folder(tmp_path: Path):
    found = [moment("/films/a.mp4", 7), moment("/films/b.mp4", 8)]
    write_found(found, Format.SRT, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["01_a.srt", "02_b.srt"]
    assert read_srt(tmp_path / "out/02_b.srt", video="/films/b.mp4") == (found[1],)


def test_videos_whose_files_have_gone_get_a_file_each(tmp_path: Path):
    found = [moment("", 7), moment("", 8)]
    write_found(found, Format.VTT, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["01_video-7.vtt", "02_video-8.vtt"]
    assert read_webvtt(tmp_path / "out/02_video-8.vtt") == (found[1],)
    with pytest.raises(InputError, match=r"2 \['video-7', 'video-8'\]"):
        write_found(found, Format.VTT, None)


def test_videos_that_no_library_knows_are_told_apart_by_their_paths(tmp_path: Path):
    write_found([moment("/films/a.mp4", None), moment("/films/b.mp4", None)], Format.SRT, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["01_a.srt", "02_b.srt"]


def test_a_single_video_goes_to_stdout_as_captions(capsys: pytest.CaptureFixture[str]):
    write_found([moment("/films/a.mp4")], Format.VTT, None)
    assert "00:00:01.500 --> 00:00:04.000\na dog\n" in capsys.readouterr().out
