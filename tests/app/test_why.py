"""``vlm why``: explanations as rows, tables, JSON and pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.app.running import Vlm, run_on_terminal
from tests.conftest import BLOCKS


def of_kind(rows: list[list[str]], kind: str) -> list[list[str]]:
    return [row[1:] for row in rows if row[0] == kind]


def test_rows_tell_hit_words_peaks_and_the_rejected(vlm: Vlm, colour_library: Path):
    search = vlm("search", "a white thing", "-l", colour_library, "-e", BLOCKS).rows()
    rows = vlm("why", "a white thing", "-k", 2, "-l", colour_library, "-e", BLOCKS).rows()
    assert of_kind(rows, "hit") == [search[0]]
    assert [(word[0], word[4]) for word in of_kind(rows, "word")] == [("0", "a"), ("1", "white"), ("2", "thing")]
    assert max(of_kind(rows, "word"), key=lambda word: float(word[1]))[4] == "white"
    start, end = (float(second) for second in search[0][2:4])
    assert all(start <= float(peak[0]) < end for peak in of_kind(rows, "peak"))
    (rejected,) = of_kind(rows, "rejected")
    assert (rejected[0], rejected[4], rejected[5]) == ("top-k", search[2][4], search[2][5])
    assert "its rank 3 is behind the 2 that were asked for" in rejected[6]


def test_a_video_can_be_named_by_its_path(vlm: Vlm, colour_library: Path, colour_videos: Path):
    search = vlm("search", "white", "-l", colour_library, "-e", BLOCKS).rows()
    rows = vlm("why", "white", search[2][5], "-k", 1, "-l", colour_library, "-e", BLOCKS).rows()
    assert of_kind(rows, "hit") == []
    assert of_kind(rows, "rejected")[0][4] == search[2][4]
    assert of_kind(rows, "peak")


def test_json_has_curves_and_pictures(vlm: Vlm, colour_library: Path):
    told = json.loads(vlm("why", "a white thing", "--rank", 1, "--json", "--thumbnails", "-l", colour_library, "-e", BLOCKS).out)
    assert (told["schema"], told["query"], told["hit"]["rank"], told["rejected"]) == ("vlm.why/1", "a white thing", 1, None)
    assert len(told["curve"]["times"]) == len(told["curve"]["values"]) == len(told["words"][0]["curve"])
    assert (told["start"], told["end"]) == (told["hit"]["start"], told["hit"]["end"])
    assert base64.b64decode(told["peaks"][0]["thumbnail"]).startswith(b"\xff\xd8")
    plain = json.loads(vlm("why", "a white thing", "--json", "-l", colour_library, "-e", BLOCKS).out)
    assert plain["peaks"][0]["thumbnail"] is None


def test_a_terminal_gets_a_table(colour_library: Path):
    done = run_on_terminal(["why", "a white thing", "-k", "1", "-l", str(colour_library), "-e", BLOCKS], columns=100)
    assert done.code == 0
    assert "hit 1" in done.out
    assert "nearest rejected" in done.out
    assert "top-k: its rank 2 is behind the 1 that were asked for" in " ".join(done.out.split())
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith(("a ", "white ", "thing "))] == ["a", "white", "thing"]


def test_the_sheet_shows_hit_peaks_and_the_rejected(vlm: Vlm, colour_library: Path, tmp_path: Path):
    done = vlm("why", "white", "-k", 1, "--sheet", tmp_path / "why.png", "-l", colour_library, "-e", BLOCKS)
    assert f"contact sheet: {tmp_path / 'why.png'}" in done.err
    with Image.open(tmp_path / "why.png") as sheet:
        assert sheet.size[1] > 3 * 96
    again = vlm("why", "white", "--sheet", tmp_path / "why.png", "-l", colour_library, "-e", BLOCKS, code=1)
    assert "exists and is never overwritten" in again.err


def test_without_any_hit_the_rejected_is_told_and_the_exit_code_is_four(vlm: Vlm, colour_library: Path):
    done = vlm("why", "white", "--path", "*.nothing", "-l", colour_library, "-e", BLOCKS, code=4)
    (rejected,) = of_kind(done.rows(), "rejected")
    assert rejected[0] == "filter"
    assert "the filter paths = *.nothing" in rejected[6]
    assert "nothing found for 'white'" in done.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["white", "1", "--rank", "2"], 2, "name a video or a rank, not both"),
        (["white", "--rank", "3", "-k", "2"], 2, "hit 3 is not among the 2 hits"),
        (["white", "--rank", "9"], 1, "there is no hit 9 to explain: the search found 3"),
        (["white", "99"], 1, "holds no video '99'"),
        (["..."], 1, "punctuation alone"),
        (["white", "--sheet", "a.jpg"], 1, "ends in .png"),
    ],
)
def test_what_makes_no_sense_is_told(vlm: Vlm, colour_library: Path, words: list[str], code: int, told: str):
    err = vlm("why", *words, "-l", colour_library, "-e", BLOCKS, code=code).err
    assert told in " ".join(err.replace("│", " ").split())
