from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.vlm.video.numbered import NUMBER_FRAMING, MakeVideo, collect, numbers_of
from vlm.errors import DecoderCrashed, DecoderStalled, InputError, NotAVideo, VideoUnreadable
from vlm.types import Clock, DecodeOutcome, Frames, Framing, Thumbnail, VideoInfo
from vlm.video import wire
from vlm.video.decode import decode
from vlm.video.probe import probe
from vlm.video.sample import Sampling
from vlm.video.supervise import DecodeRequest, SupervisedDecoder

ALL = Sampling.parse("every:1000")


def request(path: Path | bytes, *, batch_rows: int = 4, framing: Framing = NUMBER_FRAMING) -> DecodeRequest:
    name = os.fsencode(path)
    return DecodeRequest(path=name, digest="d", sampling=ALL, framing=framing, batch_rows=batch_rows, thumbnail_seconds=1.0)


@pytest.fixture
def video(make_video: MakeVideo) -> Path:
    return make_video("supervised.mp4", 100, options={"g": "20", "bf": "2"})


@pytest.fixture(scope="module")
def kept_decoder() -> Iterator[SupervisedDecoder]:
    """One decoder for the tests that leave it alive."""
    with SupervisedDecoder() as decoder:
        yield decoder


# What a scripted child sends before it misbehaves: 2 rows of 1 s each of an expected 10 s.
SCRIPT = """
import os, signal, sys, time
from fractions import Fraction
import numpy as np
from vlm.types import Clock, Frames, VideoInfo
from vlm.video import wire
out = sys.stdout.buffer
assert wire.receive(sys.stdin.buffer) is not None
info = VideoInfo(container="c", codec="c", width=4, height=4, rotation_degrees=0, frame_rate=None,
                 clock=Clock(Fraction(1, 10)), promised_seconds=10.0, digest="d", num_bytes=1)
def begin():
    wire.send(out, wire.pack_info(info))
def rows():
    wire.send(out, {"kind": "expects", "start_seconds": 0.0, "end_seconds": 10.0})
    head, blobs = wire.pack_frames(Frames(np.zeros((2, 4, 4, 3), np.uint8), np.asarray([0, 10])))
    wire.send(out, head, *blobs)
def reached(position):
    wire.send(out, {"kind": "reached", "phase": "decode", "position": position})
"""


def scripted(ending: str, *, deadline_seconds: float = 5.0) -> SupervisedDecoder:
    return SupervisedDecoder(deadline_seconds=deadline_seconds, command=[sys.executable, "-c", SCRIPT + textwrap.dedent(ending)])


def test_a_supervised_decode_equals_one_in_this_process(kept_decoder: SupervisedDecoder, video: Path) -> None:
    info, batches, outcome = collect(kept_decoder.decode(request(video)))
    own_info, own_batches, own_outcome = collect(decode(video, ALL, NUMBER_FRAMING, digest="d", thumbnail_seconds=1.0, batch_rows=4))
    assert (info, outcome) == (own_info, own_outcome)
    assert len(batches) == len(own_batches) == 25
    for batch, own in zip(batches, own_batches, strict=True):
        assert np.array_equal(batch.pixels, own.pixels)
        assert np.array_equal(batch.pts, own.pts)
        assert batch.thumbnails == own.thumbnails


def test_pixels_from_the_child_may_be_written_to(kept_decoder: SupervisedDecoder, video: Path) -> None:
    assert collect(kept_decoder.decode(request(video)))[1][0].pixels.flags.writeable


def test_one_child_serves_many_files_and_survives_bad_ones(kept_decoder: SupervisedDecoder, video: Path, tmp_path: Path) -> None:
    collect(kept_decoder.decode(request(video)))
    pid = kept_decoder.child_pid
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"junk" * 100)
    with pytest.raises(NotAVideo, match=r"junk\.mp4"):
        collect(kept_decoder.decode(request(junk)))
    with pytest.raises(VideoUnreadable, match=r"gone\.mp4"):
        kept_decoder.probe(os.fsencode(tmp_path / "gone.mp4"))
    assert kept_decoder.probe(os.fsencode(video), "digest") == probe(video, digest="digest")
    assert kept_decoder.child_pid == pid


def test_a_path_is_taken_from_the_callers_folder_and_may_be_any_bytes(
    kept_decoder: SupervisedDecoder, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = b"\xe9t\xe9\n'.mp4"
    os.link(video, os.path.join(os.fsencode(tmp_path), name))
    monkeypatch.chdir(tmp_path)
    assert len(collect(kept_decoder.decode(request(name)))[1]) == 25


def test_a_hang_before_any_frame_is_a_stall_that_names_the_file() -> None:
    with scripted("begin(); time.sleep(600)", deadline_seconds=1.0) as decoder, pytest.raises(DecoderStalled, match=r"some\.mp4.* for 1 s"):
        collect(decoder.decode(request(b"some.mp4")))


def test_a_hang_after_frames_keeps_them_and_says_how_far_they_reach() -> None:
    with scripted("begin(); rows(); time.sleep(600)", deadline_seconds=1.0) as decoder:
        _, batches, outcome = collect(decoder.decode(request(b"some.mp4")))
    assert [len(b.pts) for b in batches] == [2]
    assert (outcome.status, outcome.coverage, outcome.end_seconds) == ("partial", 0.2, 2.0)
    assert "without getting any further" in outcome.reason


def test_reports_that_do_not_grow_are_a_stall() -> None:
    loop = "begin()\nwhile True:\n    reached(7); time.sleep(0.05)"
    with scripted(loop, deadline_seconds=1.0) as decoder, pytest.raises(DecoderStalled):
        collect(decoder.decode(request(b"some.mp4")))


def test_slow_work_that_goes_on_is_no_stall() -> None:
    ending = """
        begin()
        for position in range(12):
            reached(position); time.sleep(0.25)
        rows()
        wire.send(out, {"kind": "outcome", "status": "complete", "coverage": 1.0, "end_seconds": 2.0, "reason": ""})
    """
    with scripted(ending, deadline_seconds=1.5) as decoder:
        assert collect(decoder.decode(request(b"some.mp4")))[2].status == "complete"


def test_the_callers_own_time_does_not_count(video: Path) -> None:
    with SupervisedDecoder(deadline_seconds=1.5) as decoder:
        collect(decoder.decode(request(video)))  # the child has started
        items = decoder.decode(request(video, batch_rows=1, framing=Framing(height=256, width=256)))
        outcome = None
        for count, item in enumerate(items):
            if count == 3:
                time.sleep(2.5)  # longer than the deadline; the child waits on its full pipe meanwhile
            outcome = item
    assert isinstance(outcome, DecodeOutcome)
    assert outcome.status == "complete"


def test_a_child_waits_for_a_slow_caller_instead_of_filling_the_memory(video: Path) -> None:
    with SupervisedDecoder() as decoder:
        items = decoder.decode(request(video, batch_rows=1, framing=Framing(height=512, width=512)))
        next(items)
        next(items)
        child = decoder._child
        assert child is not None
        time.sleep(1.0)
        assert child._messages.qsize() <= 4
        items.close()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_before_any_frame_names_the_file_and_the_signal(name: str) -> None:
    ending = f"begin(); os.kill(os.getpid(), signal.{name}); time.sleep(600)"
    with scripted(ending) as decoder, pytest.raises(DecoderCrashed, match=rf"some\.mp4.*{name}"):
        collect(decoder.decode(request(b"some.mp4")))


def test_a_crash_after_frames_keeps_them() -> None:
    with scripted("begin(); rows(); os.kill(os.getpid(), signal.SIGSEGV)") as decoder:
        _, batches, outcome = collect(decoder.decode(request(b"some.mp4")))
    assert len(batches) == 1
    assert (outcome.status, outcome.coverage) == ("partial", 0.2)
    assert "SIGSEGV" in outcome.reason


def test_the_last_words_of_a_child_are_passed_on() -> None:
    with (
        scripted("begin(); print('free(): invalid pointer', file=sys.stderr, flush=True); sys.exit(3)") as decoder,
        pytest.raises(DecoderCrashed, match=r"exit status 3 \(free\(\): invalid pointer\)"),
    ):
        collect(decoder.decode(request(b"some.mp4")))


def test_garbage_on_the_pipe_is_a_crash() -> None:
    with scripted("out.write(b'x' * 64); out.flush(); time.sleep(600)") as decoder, pytest.raises(DecoderCrashed, match="no message"):
        collect(decoder.decode(request(b"some.mp4")))


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_the_real_child_is_replaced_after_a_signal_in_the_middle(video: Path, name: str) -> None:
    with SupervisedDecoder() as decoder:
        items = decoder.decode(request(video, batch_rows=1, framing=Framing(height=512, width=512)))
        assert isinstance(next(items), VideoInfo)
        assert isinstance(next(items), Frames)
        assert decoder.child_pid is not None
        os.kill(decoder.child_pid, signal.Signals[name])
        outcome = list(items)[-1]
        assert isinstance(outcome, DecodeOutcome)
        assert outcome.status == "partial"
        assert 0 < outcome.coverage < 1
        assert name in outcome.reason
        assert numbers_of(collect(decoder.decode(request(video)))[1]) == list(range(100))


def test_a_stopped_child_is_a_stall(video: Path) -> None:
    with SupervisedDecoder(deadline_seconds=2.0) as decoder:
        collect(decoder.decode(request(video)))
        items = decoder.decode(request(video, batch_rows=1, framing=Framing(height=512, width=512)))
        next(items)
        next(items)
        assert decoder.child_pid is not None
        os.kill(decoder.child_pid, signal.SIGSTOP)
        outcome = list(items)[-1]
        assert isinstance(outcome, DecodeOutcome)
        assert "without getting any further" in outcome.reason


def test_a_child_that_died_between_files_is_replaced(video: Path) -> None:
    with SupervisedDecoder() as decoder:
        collect(decoder.decode(request(video)))
        pid = decoder.child_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert collect(decoder.decode(request(video)))[2].status == "complete"


def test_leaving_early_leaves_a_decoder_that_works(video: Path) -> None:
    with SupervisedDecoder() as decoder:
        items = decoder.decode(request(video))
        next(items)
        items.close()  # type: ignore[attr-defined]
        assert numbers_of(collect(decoder.decode(request(video)))[1]) == list(range(100))


def test_two_decoders_run_beside_each_other(video: Path) -> None:
    results: list[list[int]] = []

    def work() -> None:
        with SupervisedDecoder() as decoder:
            results.append(numbers_of(collect(decoder.decode(request(video)))[1]))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(100))] * 2


def test_the_child_ignores_ctrl_c(kept_decoder: SupervisedDecoder, video: Path) -> None:
    collect(kept_decoder.decode(request(video)))
    pid = kept_decoder.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    assert collect(kept_decoder.decode(request(video)))[2].status == "complete"
    assert kept_decoder.child_pid == pid


def test_the_child_ends_when_its_parent_is_killed(video: Path) -> None:
    script = f"""
import time
from vlm.types import Framing
from vlm.video.sample import Sampling
from vlm.video.supervise import DecodeRequest, SupervisedDecoder
decoder = SupervisedDecoder()
request = DecodeRequest(path={os.fsencode(video)!r}, digest="", sampling=Sampling.parse("every:1000"),
                        framing=Framing(height=512, width=512), batch_rows=1)
items = decoder.decode(request)
next(items)
print(decoder.child_pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    readable, _, _ = select.select([child], [], [], 20)  # a pidfd is readable once its process has ended
    os.close(child)
    assert readable


def test_supervision_loads_no_pyav() -> None:
    code = "import sys, vlm.video.sample, vlm.video.supervise, vlm.video.probe; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("argument", "value"), [("threads", 0), ("deadline_seconds", 0.0)])
def test_senseless_settings_are_refused(argument: str, value: float) -> None:
    with pytest.raises(InputError, match=argument):
        SupervisedDecoder(**{argument: value})  # type: ignore[arg-type]


def test_every_message_arrives_as_it_was_sent() -> None:
    info = VideoInfo(
        container="mp4", codec="h264", width=3, height=2, rotation_degrees=90, frame_rate=Fraction(30000, 1001),
        clock=Clock(Fraction(1, 90000), Fraction(-1, 3)), promised_seconds=None, digest="ab", num_bytes=7,
    )  # fmt: skip
    asked = DecodeRequest(
        path=b"\xff\n", digest="d", sampling=Sampling.parse("windows:4/2/1"), after_pts=-5, thumbnail_seconds=2.5, batch_rows=3,
        framing=Framing(height=1, width=2, resize="longest", interpolation="bilinear", fill=3),
    )  # fmt: skip
    outcome = DecodeOutcome(status="partial", coverage=0.5, end_seconds=1.25, reason="why")
    frames = Frames(np.arange(24, dtype=np.uint8).reshape(1, 2, 2, 2, 3), np.asarray([[1, 2]]), (Thumbnail(1, b"jpeg"),))
    assert wire.unpack_info(wire.pack_info(info)) == info
    assert wire.unpack_request(wire.pack_request(asked)) == asked
    assert wire.unpack_outcome(wire.pack_outcome(outcome)) == outcome
    header, blobs = wire.pack_frames(frames)
    again = wire.unpack_frames(header, [bytearray(b) for b in blobs])
    assert np.array_equal(again.pixels, frames.pixels)
    assert np.array_equal(again.pts, frames.pts)
    assert again.thumbnails == frames.thumbnails
    error = wire.unpack_error(wire.pack_error(NotAVideo("no")))
    assert (type(error), str(error)) == (NotAVideo, "no")


def test_closing_from_another_thread_wakes_the_one_who_waits() -> None:
    decoder = scripted("begin(); time.sleep(3600)", deadline_seconds=60.0)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            collect(decoder.decode(request(Path("hangs.mp4"))))
        except BaseException as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while decoder.child_pid is None:
        time.sleep(0.01)
    decoder.close()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert isinstance(caught[0], DecoderCrashed)
