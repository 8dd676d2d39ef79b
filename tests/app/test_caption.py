"""``vlm caption``: a captioner trained on rendered video files by its recipe, as a user does it, then run on such files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.running import Vlm
from tests.app.test_suite import train
from tests.train.test_suite import recipe
from vlm.app.exits import ExitCode
from vlm.data.formats.found_file import read_found
from vlm.data.toybox.export import export
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import make_world
from vlm.errors import InputError

SECONDS = 8.0


@dataclass(frozen=True)
class Told:
    """Rendered videos, and a model of each kind that was trained on them."""

    videos: tuple[Path, ...]
    finds: Path
    tells: Path


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("captions") / "toys"
    worlds = [make_world(3, number, seconds=SECONDS, num_events=1) for number in range(4)]
    rendered = render_worlds(folder, worlds, size=96, frame_rate=4)
    export(folder, worlds, video_paths={video.world: video.path for video in rendered}, size=96)
    models = []
    for segments in ("found", "given"):
        path = recipe(folder, "captioning", steps=40)
        path.write_text(path.read_text().replace("[data]", f'segments = "{segments}"\n[data]'))
        words = ["--data", folder / "annotations/activitynet_captions/train.json", "--videos", folder / "videos"]
        done = train(path, "--out", folder / segments, *words, "--cache", folder / "cache")
        assert done.returncode == 0, done.stderr
        models.append(folder / segments / "model")
    return Told(tuple(video.path for video in rendered), *models)


def test_events_come_in_order_of_time_with_sentences(vlm: Vlm, told: Told):
    rows = vlm("caption", told.videos[0], "--model", told.finds, "--device", "cpu").rows()
    assert rows
    assert [float(row[0]) for row in rows] == sorted(float(row[0]) for row in rows)
    assert all(0 <= float(start) < float(end) <= SECONDS and 0 <= float(score) <= 1 for start, end, score, _ in rows)
    assert all(re.fullmatch(r"[a-z ,.-]+", sentence) for *_, sentence in rows)
    surest = vlm("caption", told.videos[0], "--model", told.finds, "-k", 1).rows()
    assert [row[2] for row in surest] == [max(row[2] for row in rows)]


def test_json_holds_the_sentences_one_by_one_and_as_one_text(vlm: Vlm, told: Told):
    words = ["caption", told.videos[1], "--model", told.finds]
    document = json.loads(vlm(*words, "--json").out)
    assert (document["schema"], document["video"]["duration"]) == ("vlm.caption/1", SECONDS)
    assert [[f"{one['start']:.3f}", f"{one['end']:.3f}", f"{one['score']:.4f}", one["sentence"]] for one in document["events"]] == vlm(
        *words
    ).rows()
    text = vlm(*words, "--paragraph").out.strip()
    assert text == document["paragraph"]
    assert text.count(".") >= len(document["events"])
    assert text[0].isupper()


def test_subtitles_tell_what_happens_where(vlm: Vlm, told: Told, tmp_path: Path):
    words = ["caption", told.videos[2], "--model", told.finds]
    rows = vlm(*words).rows()
    for kind in ("srt", "vtt"):
        vlm(*words, "--format", kind, "-o", tmp_path / kind)
        (file,) = (tmp_path / kind).iterdir()
        cues = read_found(file)
        assert [cue.query for cue in cues] == [row[3] for row in rows]
        assert [cue.span.start for cue in cues] == pytest.approx([float(row[0]) for row in rows], abs=2e-3)
    done = vlm(*words, "--paragraph", "--format", "srt", code=ExitCode.USAGE)
    assert "one text has no times to write as srt" in done.err


def test_given_stretches_are_told_of(vlm: Vlm, told: Told, tmp_path: Path):
    vlm("caption", told.videos[0], "--model", told.finds, "--format", "csv", "-o", tmp_path / "found.csv")
    words = ["caption", told.videos[0], "--model", told.tells]
    rows = vlm(*words, "--segments", tmp_path / "found.csv").rows()
    spans = sorted({(moment.span.start, moment.span.end) for moment in read_found(tmp_path / "found.csv")})
    assert [row[:3] for row in rows] == [[f"{start:.3f}", f"{end:.3f}", "1.0000"] for start, end in spans]
    assert "name them with --segments FILE" in vlm(*words, code=ExitCode.ERROR).err
    done = vlm("caption", told.videos[0], "--model", told.finds, "--segments", tmp_path / "found.csv", code=ExitCode.ERROR)
    assert "this model finds its own stretches" in done.err
    (tmp_path / "found.txt").write_text("")
    done = vlm(*words, "--segments", tmp_path / "found.txt", code=ExitCode.ERROR)
    assert "must end in one of .csv, .jsonl, .srt, .vtt, got .txt" in done.err


def test_a_file_of_another_ending_is_no_list_of_stretches(tmp_path: Path):
    with pytest.raises(InputError, match="got no ending"):
        read_found(tmp_path / "found")
