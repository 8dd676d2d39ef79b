"""Every real awkward file, against what its manifest says of it."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vlm.video.numbered import NUMBER_FRAMING, collect, times_of
from vlm.errors import NotAVideo, NoVideoStream, UndecodableVideo, VideoError
from vlm.types import DecodeOutcome, Frames, VideoInfo
from vlm.video.decode import decode
from vlm.video.sample import Sampling

FOLDER = Path(__file__).parents[4] / "shared/data/awkward"
MANIFEST: list[dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text()) if FOLDER.is_dir() else []

if not MANIFEST:
    pytest.skip(f"{FOLDER} is absent: real files are no part of a clone", allow_module_level=True)

ALL = Sampling.parse("every:1000000")

# 21,766 frames of 4K AV1: decoded sparsely, in a test of its own.
LONG = "exo_long_4k_av1.mp4"

# Files whose outcome the manifest's plain PyAV loop does not tell, and why.
REFUSED: dict[str, type[VideoError]] = {
    "exo_bbb_1ch_48kHz_q10_opus.webm": NoVideoStream,
    "exo_sample_audio_only.mp4": NoVideoStream,
    "exo_sample_malformed_free_box.mp4": NotAVideo,
    "exo_video_dovi_3840x2160_30fps_dav1_10.mp4": UndecodableVideo,
    "libwebm_invalid_vp9_bitstream-bug_1416.webm": UndecodableVideo,
    "mdx_truncated_10byte.gif": UndecodableVideo,
    "moviepy_zero_byte.webm": NotAVideo,
    "mp4parse_cenc_encrypted.mp4": UndecodableVideo,
    "mp4parse_chunk_out_of_range.mp4": NotAVideo,
    "mp4parse_zero_empty_stsc.mp4": UndecodableVideo,
    "pixeltable_bad_video.mp4": NotAVideo,
}
PARTIAL = {  # frames kept and coverage
    "decord_corrupted.mp4": (28, 0.6),
    "exo_sample_with_invalid_nalu.mp4": (26, 0.867),
    "mp4parse_no_timescale.mp4": (129, 0.791),
    # One frame of 33 ms in a file that claims 9.144 s and ends after 10 kB.
    "libwebm_block_ends_beyond_cluster.mkv": (1, 0.004),
}
COMPLETE = {  # frames, where the manifest has none or another number
    "exo_sample_missing_stsd.mp4": 30,  # it is the sound that lacks its description
    "vcomposer_nonutf8_metadata.mp4": 86,  # opened with replaced metadata
    "exo_sample_with_fake_auxiliary_tracks.mp4": 1,  # five frames at one and the same time: the last is what stays on screen
}
ROWS = [r for r in MANIFEST if r["file"] not in REFUSED and r["file"] not in PARTIAL and r["file"] != LONG]

# Times on the player's clock of the first and the last frame, in seconds, where something moves the zero.
KNOWN_TIMES = {
    "exo_bbb_800x640_768kbps_30fps_avc_2b_firstpts_10_sec.mp4": (0.0, 119 / 30),  # first timestamp 10 s
    "exo_edit_list_positive_shift.mp4": (1.0, 1 + 269 / 30),  # an edit list delays the pictures by 1 s
    "exo_bbb_2500ms.ts": (1.525 - 136268 / 90000, 358500 / 90000 - 136268 / 90000),  # the sound starts 11 ms earlier
    "exo_sample_h264.ts": (0.0, 29 / 30),  # first timestamp 1.467 s
    "exo_sample.flv": (0.0, 0.967),  # first timestamp 67 ms; sound later
    "exo_sample_fragmented.mp4": (2002 / 30000, 31031 / 30000),  # no edit list: B-frames delay the pictures behind the sound
    "exo_8k24fps_300ms.mp4": (0.006, 26783 / 90000),
    "exo_sample_h262_mpeg_audio.ps": (1 - 0.9890888889, 1.08 - 0.9890888889),
    "mdx_sony_avchd.mts": (0.0, 0.48),  # two packets make a frame; pictures and sound both start at 1.04 s
    "mma_ntu_avi_nonmonotonic.avi": (0.0, 102 / 30),  # timestamps in decoding order
    "exo_iibbibb_editlist_videoonly.mp4": (0.0, 11.0),  # an edit list hides the first frame
    "moviepy_no_duration.webm": (0.0, 4.872),
    "exo_sample_android_slow_motion.mp4": (0.0, 44281 / 90000),
}


@lru_cache
def decoded(file: str) -> tuple[VideoInfo, list[Frames], DecodeOutcome]:
    """All frames of one file, decoded once for all tests."""
    return collect(decode(FOLDER / file, ALL, NUMBER_FRAMING, digest="", threads=2))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_a_sound_file_gives_all_its_frames_at_their_times(row: dict[str, Any]) -> None:
    info, batches, outcome = decoded(row["file"])
    times = times_of(info, batches)
    assert (outcome.status, outcome.coverage) == ("complete", 1.0)
    assert len(times) == COMPLETE.get(row["file"], row["frames_decoded"])
    assert times[0] >= 0
    assert np.all(np.diff(times) > 0)
    half_a_frame = 0.5 * (times[-1] - times[0]) / max(1, len(times) - 1) + 0.005  # the manifest rounds to 10 ms
    if row["duration_s"] is not None and len(times) > 1:
        assert outcome.end_seconds - times[0] == pytest.approx(row["duration_s"], abs=2 * half_a_frame + 0.05)
    if row["pts_delta_min_max_distinct"] and row["pts_delta_min_max_distinct"][0] > 0:
        shortest, longest, _ = row["pts_delta_min_max_distinct"]
        assert np.diff(times).min() == pytest.approx(shortest, abs=0.001)
        assert np.diff(times).max() == pytest.approx(longest, abs=0.001)


@pytest.mark.parametrize("file", KNOWN_TIMES)
def test_zero_is_what_a_player_shows_as_zero(file: str) -> None:
    info, batches, _ = decoded(file)
    times = times_of(info, batches)
    assert (times[0], times[-1]) == pytest.approx(KNOWN_TIMES[file], abs=0.0005)


@pytest.mark.parametrize("file", REFUSED)
def test_a_file_without_a_usable_frame_is_refused_by_name(file: str) -> None:
    with pytest.raises(VideoError) as caught:
        collect(decode(FOLDER / file, ALL, NUMBER_FRAMING, digest=""))
    assert type(caught.value) is REFUSED[file]
    assert file in str(caught.value)


@pytest.mark.parametrize("file", PARTIAL)
def test_a_damaged_file_keeps_what_decodes_and_says_how_much(file: str) -> None:
    _, batches, outcome = collect(decode(FOLDER / file, ALL, NUMBER_FRAMING, digest=""))
    num_frames, coverage = PARTIAL[file]
    assert outcome.status == "partial"
    assert sum(len(b.pts) for b in batches) == num_frames
    assert outcome.coverage == pytest.approx(coverage, abs=0.001)


def test_a_long_4k_file_is_sampled_from_its_keyframes() -> None:
    info, batches, outcome = collect(decode(FOLDER / LONG, Sampling.parse("keyframes"), NUMBER_FRAMING, digest="", threads=2))
    times = times_of(info, batches)
    assert (len(times), outcome.status) == (68, "complete")
    assert outcome.end_seconds == pytest.approx(362.7667, abs=0.02)


def test_the_first_of_two_default_streams_is_taken() -> None:
    info, _, _ = collect(decode(FOLDER / "torchcodec_nasa_13013.mp4", Sampling.parse("every:1"), NUMBER_FRAMING, digest=""))
    assert (info.width, info.height, info.frame_rate) == (320, 180, Fraction(25))
