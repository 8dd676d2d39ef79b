"""``kill -9`` on a real ``vlm add`` at random moments, and what must hold after each; used by the tests and by benchmarks/kill.py."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vlm import Library
from vlm.errors import LibraryNotFound


@dataclass
class Tally:
    """What the rounds saw: how many were killed in the middle, how many ended before, how many videos were resumed inside."""

    killed: int = 0
    ended: int = 0
    inside: int = 0
    libraries: int = 0


def children_of(pid: int) -> set[int]:
    """Process ids whose parent is ``pid``."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be collected does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_and_kill(folder: Path, videos: Path, spec: str, after_seconds: float) -> tuple[list[dict], bool]:
    """The files that ``vlm add`` said were settled before it was killed, and whether it had ended by itself."""
    vlm = str(Path(sys.executable).with_name("vlm"))
    command = [vlm, "add", str(videos), "--library", str(folder), "--encoder", spec, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            process.wait(after_seconds)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        assert not ended or process.returncode == 0, f"vlm add ended with {process.returncode}"
        decoders = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        printed, _ = process.communicate()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in decoders):
        assert time.monotonic() < deadline, f"decoding children {decoders} outlive the run that was killed"
        time.sleep(0.02)
    lines = [line for line in printed.split("\n") if line.endswith("}")]  # the last line may be cut
    return [row for row in map(json.loads, lines) if row.get("video_id") is not None], ended


def check(folder: Path, settled: list[dict], videos: Path, encoder: object, query: str) -> tuple[int, int]:
    """Asserts that nothing committed is lost or doubled and that the library works. Returns (ready, unfinished) videos."""
    try:
        library = Library.open(folder, encoder=encoder, create=False)
    except LibraryNotFound:  # killed before the file was there: nothing can have been committed
        assert settled == []
        return 0, 0
    with library:
        records = {record.video_id: record for record in library.videos()}
        for row in settled:
            assert row["video_id"] in records, f"{row['path']} was said to be committed and is gone"
            assert row["path"] in {os.fsdecode(place.path) for place in records[row["video_id"]].locations}
        digests = [record.digest for record in records.values()]
        assert len(digests) == len(set(digests))
        places = [place.path for record in records.values() for place in record.locations]
        assert len(places) == len(set(places))
        assert all(record.locations and record.num_segments for record in records.values())
        assert [p for p in library.verify() if not p.startswith("vectors.faiss")] == []
        if records:
            hits = library.search(query, top_k=len(records) + 5)
            assert {hit.video_id for hit in hits} == set(records)
        return len(records), library.stats().num_unfinished


def kill_rounds(work: Path, videos: Path, encoder: object, spec: str, *, rounds: int, seed: int, query: str = "red") -> Tally:
    """Kills ``rounds`` runs of ``add``, each at a random moment, resuming one library until it is whole and then beginning another.

    The moments spread over the time that one run takes from its start to its end.
    """
    begin = time.monotonic()
    _, ended = run_and_kill(work / "uninterrupted", videos, spec, 600)
    assert ended
    longest_seconds = 1.05 * (time.monotonic() - begin)
    rng = random.Random(seed)
    total = len(list(videos.iterdir()))
    tally = Tally()
    settled: dict[int, dict] = {}
    folder = work / "library-0"
    for _ in range(3 * rounds):
        if tally.killed == rounds:
            break
        rows, ended = run_and_kill(folder, videos, spec, rng.uniform(0.0, longest_seconds))
        settled |= {row["video_id"]: row for row in rows}
        tally.ended, tally.killed = tally.ended + ended, tally.killed + (not ended)
        ready, unfinished = check(folder, list(settled.values()), videos, encoder, query)
        tally.inside += unfinished > 0
        if ready == total:
            tally.libraries += 1
            settled, folder = {}, work / f"library-{tally.libraries}"
    with Library.open(folder, encoder=encoder) as library:  # and in the end it is whole
        library.add(videos)
        assert len(library.videos()) == total
        assert library.stats().num_unfinished == 0
        assert library.verify() == []
    return tally
