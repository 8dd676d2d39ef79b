from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.media import scene_video
from vlm import Library
from vlm.encoders.registry import load_encoder
from vlm.errors import (
    BadVectors,
    EncoderMismatch,
    InputError,
    LibraryBusy,
    LibraryDamaged,
    LibraryNotFound,
    LibraryReadOnly,
    QueryError,
    UnknownEncoder,
    UnknownVideo,
)
from vlm.index.database import FILE_NAME
from vlm.index.records import AddProgress, FileDone


@dataclass
class Altered:
    """A loaded encoder with some of its answers replaced."""

    base: object
    changes: dict[str, object] = field(default_factory=dict)

    def __getattr__(self, name: str) -> object:
        return self.changes[name] if name in self.changes else getattr(self.base, name)


def statuses(report) -> dict[str, str]:
    return {os.path.basename(f.path): f.status for f in report.files}


# Adding


def test_a_folder_is_added_once_and_a_second_run_adds_nothing(videos: Path, tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        first = library.add(videos)
        assert statuses(first) == {"red.mp4": "added", "green.mkv": "added", "blue then white.mp4": "added"}
        assert first.num_rows == 6 + 6 + 16
        assert first.seconds_of_video == pytest.approx(28.0)
        second = library.add(videos)
        assert set(statuses(second).values()) == {"unchanged"}
        assert second.num_rows == 0
        assert len(library.videos()) == 3


def test_features_hold_one_row_a_second_at_exact_times(library: Library, videos: Path):
    video_id = library.resolve(str(videos / "blue then white.mp4"))
    features = library.features(video_id)
    assert features.times.tolist() == list(range(16))
    assert features.end == 16.0
    assert np.allclose(np.linalg.norm(features.vectors, axis=1), 1, atol=1e-3)


def test_only_what_is_new_or_changed_is_added(library: Library, videos: Path):
    old = library.resolve(str(videos / "red.mp4"))
    scene_video(videos / "red.mp4", [("white", 4)])
    scene_video(videos / "new.mp4", [("black", 4)])
    report = library.add(videos)
    assert statuses(report) == {"red.mp4": "updated", "green.mkv": "unchanged", "blue then white.mp4": "unchanged", "new.mp4": "added"}
    assert library.resolve(str(videos / "red.mp4")) > old
    with pytest.raises(UnknownVideo, match=str(old)):
        library.video(old)


def test_a_run_without_news_loads_no_model(library: Library, videos: Path):
    with Library.open(library.path) as again:  # a plug-in that is not named cannot be loaded
        assert set(statuses(again.add(videos)).values()) == {"unchanged"}


def test_a_touched_file_is_not_decoded_again(library: Library, videos: Path):
    os.utime(videos / "red.mp4", ns=(1, 1))
    report = library.add(videos)
    assert statuses(report)["red.mp4"] == "unchanged"
    assert report.num_rows == 0
    assert not library.changed_files()


def test_the_same_content_at_two_paths_is_one_video_with_two_locations(library: Library, videos: Path):
    shutil.copy(videos / "red.mp4", videos / "copy of red.mp4")
    report = library.add(videos)
    assert statuses(report)["copy of red.mp4"] == "linked"
    record = library.video(library.resolve(str(videos / "red.mp4")))
    assert [os.path.basename(place.path) for place in record.locations] == ["copy of red.mp4", "red.mp4"]
    assert len(library.videos()) == 3


def test_two_copies_added_in_one_run_are_decoded_once(videos: Path, tmp_path: Path, blocks: str):
    shutil.copy(videos / "red.mp4", videos / "red again.mp4")
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        report = library.add(videos)
        assert sorted([statuses(report)["red.mp4"], statuses(report)["red again.mp4"]]) == ["added", "linked"]
        assert report.num_rows == 6 + 6 + 16


def test_a_moved_file_keeps_its_video(library: Library, videos: Path):
    before = library.resolve(str(videos / "red.mp4"))
    os.rename(videos / "red.mp4", videos / "moved.mp4")
    assert library.changed_files().missing == (str(videos / "red.mp4"),)
    library.add(videos)
    assert library.resolve(str(videos / "moved.mp4")) == before


def test_bad_files_are_quarantined_with_their_reason_and_the_rest_goes_on(library: Library, videos: Path):
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("no video")
    data = (videos / "blue then white.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(data[: len(data) // 2])
    scene_video(videos / "good.mp4", [("black", 3)])
    report = library.add([videos, videos / "missing.mp4"])
    bad = {os.path.basename(f.path): f.reason for f in report.with_status("quarantined")}
    assert set(bad) == {"empty.mp4", "text.mp4", "cut.mp4", "missing.mp4"}
    assert bad["text.mp4"].startswith("NotAVideo")
    assert "No such file" in bad["missing.mp4"]
    assert statuses(report)["good.mp4"] == "added"
    assert {os.path.basename(q.path) for q in library.quarantined()} == {"empty.mp4", "text.mp4", "cut.mp4"}


def test_a_quarantined_file_is_tried_again_only_when_it_changed_or_on_request(library: Library, videos: Path):
    (videos / "bad.mp4").write_text("no video")
    library.add(videos)
    assert "--retry" in library.add(videos).with_status("quarantined")[0].reason
    assert "--retry" not in library.add(videos, retry=True).with_status("quarantined")[0].reason
    scene_video(videos / "bad.mp4", [("red", 3)])
    assert statuses(library.add(videos))["bad.mp4"] == "added"
    assert library.quarantined() == []


def test_a_truncated_video_is_kept_as_far_as_it_decodes(library: Library, videos: Path):
    scene_video(videos / "long.mkv", [("red", 20), ("green", 20)], size=(240, 320))
    data = (videos / "long.mkv").read_bytes()
    (videos / "long.mkv").write_bytes(data[: len(data) * 6 // 10])
    report = library.add(videos / "long.mkv")
    (done,) = report.partial
    record = library.video(done.video_id)
    assert 0.1 < record.coverage < 0.9
    assert record.reason
    assert record.num_rows >= 5
    assert library.search("red", top_k=4)


def test_one_frame_is_a_video(library: Library, videos: Path):
    scene_video(videos / "one.mp4", [("white", 0.1)])
    report = library.add(videos / "one.mp4")
    assert statuses(report) == {"one.mp4": "added"}
    assert library.video(report.files[0].video_id).num_rows == 1


def test_names_of_any_bytes_are_added_found_and_shown(library: Library, videos: Path):
    odd = os.fsencode(videos) + b"/caf\xe9 'q'\n.mp4"
    scene_video(odd, [("white", 4)])
    library.add(odd)
    assert os.fsencode(library.search("white", top_k=2, group_by="segment")[0].path) in (odd, os.fsencode(videos / "blue then white.mp4"))
    assert library.resolve(os.fsdecode(odd)) in {r.video_id for r in library.videos()}


def test_events_tell_every_file_once_and_progress_reaches_the_end(videos: Path, tmp_path: Path, blocks: str):
    events = []
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        library.add(videos, on_event=events.append)
    assert sorted(os.path.basename(e.path) for e in events if isinstance(e, FileDone)) == ["blue then white.mp4", "green.mkv", "red.mp4"]
    for event in events:
        if isinstance(event, AddProgress):
            assert 0 <= event.done_bytes <= event.total_bytes


def test_an_error_in_the_listener_stops_the_run_and_leaves_a_sound_library(videos: Path, tmp_path: Path, blocks: str):
    def listen(event: object) -> None:
        raise RuntimeError("listener")

    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        with pytest.raises(RuntimeError, match="listener"):
            library.add(videos, on_event=listen)
        assert library.verify() == []
        assert set(statuses(library.add(videos)).values()) <= {"added", "unchanged", "resumed"}
        assert len(library.videos()) == 3


# Searching


def test_the_best_hit_is_the_right_video_and_the_right_stretch(library: Library, videos: Path):
    hits = library.search("white", top_k=3)
    assert hits[0].path == str(videos / "blue then white.mp4")
    assert hits[0].span.start >= 7
    assert library.search("red", top_k=1)[0].path == str(videos / "red.mp4")
    assert [h.rank for h in hits] == [1, 2, 3]
    assert hits[0].score >= hits[1].score >= hits[2].score
    assert len({h.video_id for h in hits}) == 3


def test_scores_equal_the_cosine_with_the_stored_segment(library: Library, blocks: str):
    encoder = load_encoder(blocks)
    for hit in library.search("blue", top_k=3):
        features = library.features(hit.video_id)
        rows = (features.times >= hit.span.start) & (features.times < hit.span.end)
        mean = features.vectors[rows].mean(0)
        expected = float(encoder.encode_text(["blue"])[0] @ (mean / np.linalg.norm(mean)))
        assert hit.score == pytest.approx(expected, abs=2e-3)  # stored segments are float16


def test_segments_of_one_video_that_show_the_same_stretch_are_one_hit(library: Library):
    hits = library.search("white", top_k=50, group_by="segment")
    for i, one in enumerate(hits):
        for other in hits[i + 1 :]:
            if one.video_id == other.video_id:
                shared = max(0.0, min(one.span.end, other.span.end) - max(one.span.start, other.span.start))
                assert shared <= 0.5 * min(one.span.seconds, other.span.seconds) + 1e-9


def test_spans_lie_inside_the_video(library: Library):
    for hit in library.search("green", top_k=50, group_by="segment"):
        assert 0 <= hit.span.start < hit.span.end <= hit.duration_seconds


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_query_is_refused(library: Library, query: str):
    with pytest.raises(QueryError, match="empty"):
        library.search(query)


def test_a_query_of_ten_thousand_words_is_refused_with_its_length(library: Library):
    with pytest.raises(QueryError, match="10,000 words"):
        library.search("red " * 10_000)


@pytest.mark.parametrize("arguments", [{"top_k": 0}, {"group_by": "scene"}])
def test_a_wrong_argument_is_named(library: Library, arguments: dict):
    with pytest.raises(InputError, match=str(next(iter(arguments.values())))):
        library.search("red", **arguments)


@pytest.mark.parametrize(
    "query", ["狗在雪地里奔跑", "собака бежит", "un perro corre en la playa", "der Hund und die Katze", "un chien saute"]
)
def test_a_query_in_another_language_is_answered_with_a_warning(library: Library, query: str):
    result = library.search(query)
    assert len(result) == 3
    assert "multilingual" in result.warnings[0]


@pytest.mark.parametrize(
    "query", ["a dog jumps", "red van", "los angeles at night", "MIT campus", "café", "a man on a street", "two people met"]
)
def test_an_english_query_is_answered_without_a_warning(library: Library, query: str):
    assert library.search(query).warnings == ()


def test_an_empty_library_says_what_to_do(tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "lib", encoder=blocks) as library, pytest.raises(QueryError, match="vlm add"):
        library.search("red")


def test_more_hits_than_videos_gives_all_videos(library: Library):
    assert len(library.search("red", top_k=100)) == 3


# Removing, and the vector cache


def test_a_removed_video_is_gone_from_searches_and_from_other_processes(library: Library, blocks: str):
    with Library.open(library.path, encoder=blocks) as reader:
        gone = reader.search("red", top_k=1)[0].video_id
        library.remove(gone)
        for side in (library, reader):
            assert gone not in {h.video_id for h in side.search("red", top_k=10, group_by="segment")}
            assert len(side.videos()) == 2


def test_removing_an_unknown_id_removes_nothing(library: Library):
    known = library.videos()[0].video_id
    with pytest.raises(UnknownVideo, match="999"):
        library.remove([known, 999])
    assert len(library.videos()) == 3


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "foreign"])
def test_a_bad_vector_file_is_made_anew_with_the_same_hits(library: Library, tmp_path: Path, blocks: str, damage: str):
    expected = [(h.video_id, h.segment_id) for h in library.search("white", top_k=9, group_by="segment")]
    path = library.path / "vectors.faiss"
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-7])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        with Library.open(tmp_path / "other", encoder=blocks) as other:
            scene_video(tmp_path / "x.mp4", [("red", 3)])
            other.add(tmp_path / "x.mp4")
        shutil.copy(tmp_path / "other" / "vectors.faiss", path)
    with Library.open(library.path, encoder=blocks) as again:
        if damage != "missing":
            assert "vectors.faiss" in again.verify()[0]
        assert [(h.video_id, h.segment_id) for h in again.search("white", top_k=9, group_by="segment")] == expected
        assert again.verify() == []


def test_an_old_vector_file_is_brought_up_to_date(library: Library, videos: Path, blocks: str):
    path = library.path / "vectors.faiss"
    old = path.read_bytes()
    gone = library.resolve(str(videos / "red.mp4"))
    library.remove(gone)
    scene_video(videos / "new.mp4", [("black", 4)])
    library.add(videos / "new.mp4")
    path.write_bytes(old)
    with Library.open(library.path, encoder=blocks) as again:
        found = {h.video_id for h in again.search("black", top_k=50, group_by="segment")}
        assert gone not in found
        assert again.resolve(str(videos / "new.mp4")) in found


def test_an_old_vector_file_from_before_a_compaction_is_built_anew(library: Library, videos: Path, blocks: str):
    path = library.path / "vectors.faiss"
    old = path.read_bytes()
    gone = library.resolve(str(videos / "red.mp4"))
    library.remove(gone)
    library.compact()
    path.write_bytes(old)
    with Library.open(library.path, encoder=blocks) as again:
        assert gone not in {h.video_id for h in again.search("red", top_k=50, group_by="segment")}


def test_rebuild_cuts_again_without_decoding(library: Library, videos: Path):
    before = [(h.path, h.span) for h in library.search("white", top_k=9, group_by="segment")]
    shutil.rmtree(videos)
    library.rebuild()
    assert [(h.path, h.span) for h in library.search("white", top_k=9, group_by="segment")] == before
    assert library.verify() == []


# The model of a library


def test_a_library_of_a_plug_in_does_not_run_code_of_its_own_choice(library: Library, blocks: str):
    with Library.open(library.path) as again:
        assert len(again.videos()) == 3
        with pytest.raises(UnknownEncoder, match=f"--encoder {blocks}"):
            again.search("red")


def test_another_model_is_refused_with_both_names(library: Library, blocks: str):
    other = Altered(load_encoder(blocks), {"fingerprint": "f" * 32, "name": "python:other:model"})
    with Library.open(library.path, encoder=other) as again:
        with pytest.raises(EncoderMismatch, match="python:other:model") as caught:
            again.search("red")
        assert blocks in str(caught.value)


def test_a_model_whose_vectors_have_changed_is_refused(library: Library, blocks: str, videos: Path):
    base = load_encoder(blocks)
    turned = Altered(base, {"encode_text": lambda texts: np.roll(base.encode_text(texts), 1, axis=1)})
    with Library.open(library.path, encoder=turned) as again, pytest.raises(EncoderMismatch, match="sentences"):
        again.search("red")
    turned = Altered(base, {"encode_frames": lambda frames: np.roll(base.encode_frames(frames), 1, axis=1)})
    scene_video(videos / "new.mp4", [("black", 4)])
    with Library.open(library.path, encoder=turned) as again, pytest.raises(EncoderMismatch, match="pictures"):
        again.add(videos)


def test_a_model_with_dead_vectors_is_refused_on_the_first_day(videos: Path, tmp_path: Path, blocks: str):
    base = load_encoder(blocks)
    dead = Altered(base, {"encode_frames": lambda frames: np.tile(np.eye(base.dim, dtype=np.float32)[0], (len(frames), 1))})
    with Library.open(tmp_path / "lib", encoder=dead) as library:
        with pytest.raises(BadVectors, match="all the same"):
            library.add(videos)
        assert library.encoder_spec is None


def test_a_video_with_vectors_that_are_not_finite_is_quarantined_and_the_rest_goes_on(videos: Path, tmp_path: Path, blocks: str):
    base = load_encoder(blocks)

    def encode_frames(frames):
        vectors = base.encode_frames(frames)
        greenish = frames[..., 1].mean((1, 2)) > frames[..., 0].mean((1, 2)) + 80
        vectors[greenish & (frames[..., 2].mean((1, 2)) < 100) & (frames.std((1, 2, 3)) < 90)] = np.nan
        return vectors

    with Library.open(tmp_path / "lib", encoder=Altered(base, {"encode_frames": encode_frames})) as library:
        report = library.add(videos)
        assert statuses(report)["green.mkv"] == "quarantined"
        assert "not finite" in report.with_status("quarantined")[0].reason
        assert len(library.videos()) == 2
        assert library.verify() == []


def test_another_sampling_is_refused(library: Library, videos: Path, blocks: str):
    with Library.open(library.path, encoder=blocks, sampling="every:2") as again, pytest.raises(EncoderMismatch, match="every:1"):
        again.add(videos)


# Two processes, rights, damage


def test_a_second_writer_is_told_which_process_writes_and_readers_go_on(library: Library, videos: Path, blocks: str):
    script = (
        "import sys; from vlm.index.lock import WriterLock; from pathlib import Path\n"
        "with WriterLock(Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script, library.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(LibraryBusy, match=str(other.pid)):
            library.add(videos)
        with Library.open(library.path, encoder=blocks) as reader:
            assert len(reader.search("red")) == 3
        other.kill()
    assert set(statuses(library.add(videos)).values()) == {"unchanged"}


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights, which only root can")
def test_a_library_in_a_folder_that_cannot_be_written_is_read(library: Library, videos: Path, blocks: str, tmp_path: Path):
    library.close()
    folder = Path("/var/tmp") / f"vlm-test-{os.getpid()}"  # pytest's own folders are closed to other users
    shutil.copytree(library.path, folder)
    try:
        os.chmod(folder, 0o555)
        encoder = load_encoder(blocks)
        os.seteuid(65534)
        with Library.open(folder, encoder=encoder) as reader:
            assert len(reader.search("red")) == 3
            with pytest.raises(LibraryReadOnly, match="cannot be written"):
                reader.add(folder)
            with pytest.raises(LibraryReadOnly, match="cannot be written"):
                reader.remove(1)
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


def test_read_only_is_kept(library: Library, videos: Path, blocks: str):
    with Library.open(library.path, encoder=blocks, read_only=True) as reader:
        assert len(reader.search("red")) == 3
        with pytest.raises(LibraryReadOnly, match="read-only"):
            reader.add(videos)


def test_a_damaged_store_is_refused_with_the_way_out(library: Library):
    library.close()
    (library.path / FILE_NAME).write_bytes(b"x" * 5000)
    with pytest.raises(LibraryDamaged, match="vlm add"):
        Library.open(library.path)


def test_a_folder_of_other_files_is_not_made_a_library(videos: Path, blocks: str):
    with pytest.raises(LibraryNotFound, match="other files"):
        Library.open(videos, encoder=blocks)
    assert not (videos / FILE_NAME).exists()


def test_a_file_is_no_library(videos: Path, blocks: str):
    with pytest.raises(InputError, match=r"red\.mp4"):
        Library.open(videos / "red.mp4", encoder=blocks)


def test_nothing_is_made_where_only_opening_was_asked_for(tmp_path: Path):
    with pytest.raises(LibraryNotFound, match="vlm add"):
        Library.open(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()


# What it tells


def test_stats_count_what_is_there(library: Library, blocks: str):
    stats = library.stats()
    assert (stats.num_videos, stats.num_rows, stats.num_locations, stats.num_quarantined) == (3, 28, 3, 0)
    assert stats.hours == pytest.approx(28 / 3600)
    assert stats.encoder == blocks
    assert stats.sampling == "every:1"
    assert "flat" in stats.index


def test_thumbnails_are_pictures_of_the_whole_frame(library: Library, videos: Path):
    import io

    from PIL import Image

    thumbnails = library.thumbnails(library.resolve(str(videos / "blue then white.mp4")))
    assert len(thumbnails) == 2
    with Image.open(io.BytesIO(thumbnails[0].jpeg)) as picture:
        assert picture.size[0] / picture.size[1] == pytest.approx(96 / 64, abs=0.05)


def test_an_estimate_counts_hours_and_writes_nothing(videos: Path, tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        estimate = library.estimate([videos, videos / "missing.mp4"])
        assert estimate.num_new == 3
        assert estimate.unreadable == ((str(videos / "missing.mp4"), "No such file or directory"),)
        assert estimate.hours_of_video == pytest.approx(28 / 3600, rel=0.05)
        assert estimate.num_rows == pytest.approx(28, abs=2)
        assert estimate.minutes is not None
        assert estimate.minutes > 0
        assert library.videos() == []
        assert library.encoder_spec is None


def test_a_numpy_plug_in_never_loads_torch(videos: Path, tmp_path: Path, blocks: str):
    script = (
        "import sys, json; from vlm import Library\n"
        "with Library.open(sys.argv[1], encoder=sys.argv[2]) as lib:\n"
        "    lib.add(sys.argv[3]); hits = lib.search('red')\n"
        "print(json.dumps([len(hits), sorted({'torch', 'av', 'open_clip', 'transformers'} & set(sys.modules))]))"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "lib", blocks, videos], capture_output=True, check=True, text=True)
    assert json.loads(run.stdout) == [3, []]


# Encoders that know little of the world


def narrow(blocks: str) -> Altered:
    """The encoder of the tests, as one that knows the colour red alone and can tell."""
    base = load_encoder(blocks)
    red, others = base.encode_text(["red"]), base.encode_text(["green", "blue", "white"])

    def unfamiliar(frames: np.ndarray) -> np.ndarray:
        vectors = base.encode_frames(frames)
        return (vectors @ red.T).max(axis=1) < (vectors @ others.T).max(axis=1)

    def unknown_words(texts: list[str]) -> list[str]:
        return [word for text in texts for word in text.split() if word != "red"]

    return Altered(base, {"scope": "what is red", "unfamiliar": unfamiliar, "unknown_words": unknown_words})


def test_add_warns_of_videos_beyond_what_the_encoder_knows(videos: Path, tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "narrow", encoder=narrow(blocks)) as library:
        warning = " ".join(library.add(videos).warnings)
        assert "what is red" in warning
        assert "and 1 more" in warning, "the green one and the one that is blue and white"
        assert "red.mp4" not in warning
        assert library.add(videos).warnings == ()


def test_search_warns_of_words_that_the_encoder_was_never_taught(videos: Path, tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "narrow", encoder=narrow(blocks)) as library:
        library.add(videos)
        warned = library.search("red flamingos")
        assert any("'flamingos'" in warning and "what is red" in warning for warning in warned.warnings)
        assert len(warned.hits) == 3
        assert library.search("red").warnings == ()


def test_an_encoder_that_cannot_tell_warns_of_nothing(library: Library):
    assert library.search("red flamingos").warnings == ()
