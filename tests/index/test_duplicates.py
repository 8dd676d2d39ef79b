"""What the videos of a library share: found with both places, in any order of work, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.films import Film, cut, library_of
from vlm import Library
from vlm.errors import InputError, LibraryNotFound, UnknownVideo
from vlm.index import duplicates
from vlm.index.duplicates import SharedStretch
from vlm.types import Features, Span

STILL = Film(99, still=True)


def own(seed: int, seconds: float = 40.0) -> Features:
    return cut((STILL, 0, 8), (Film(seed), 0, seconds), noise=0.05, seed=seed)


def host(seed: int, place: float, source: int, start: float, end: float, *, phase: float = 0.4) -> Features:
    """A video of its own that shows a stretch of the film of another from ``place`` on."""
    return cut((Film(seed), 0, place), (Film(source), start, end), (Film(seed), place, place + 15), phase=phase, noise=0.15, seed=seed)


VIDEOS = {f"own-{seed}": own(seed) for seed in range(1, 9)} | {"host-1": host(11, 12.3, 1, 10, 28), "host-2": host(12, 21.8, 2, 5.5, 31)}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Eight videos that begin with one still for 8 s, and two that show a stretch of the first and the second."""
    library_of(tmp_path / "lib", VIDEOS)
    with Library.open(tmp_path / "lib", create=False) as library:
        yield library


def names(found: list[SharedStretch]) -> list[tuple[str, str]]:
    return [(shared.one.path, shared.other.path) for shared in found]


def is_near(found: Span, start: float, end: float) -> bool:
    return max(abs(found.start - start), abs(found.end - end)) < 1.0


def test_planted_stretches_are_found_with_both_places_the_longest_first(library: Library):
    found = library.duplicates()
    assert names(found) == [("own-2", "host-2"), ("own-1", "host-1")]
    assert is_near(found[0].one.span, 8 + 5.5, 8 + 31)
    assert is_near(found[0].other.span, 21.8, 21.8 + 25.5)
    assert is_near(found[1].one.span, 8 + 10, 8 + 28)
    assert is_near(found[1].other.span, 12.3, 12.3 + 18)
    assert all(0.5 < shared.similarity <= 1 for shared in found)


def test_what_is_shorter_is_left_out(library: Library):
    assert names(library.duplicates(min_seconds=20)) == [("own-2", "host-2")]


def test_one_video_is_told_of_what_it_shares_from_either_side(library: Library):
    all_of_it = library.duplicates()
    for shared in all_of_it:
        (forth,) = library.duplicates(shared.one.video_id)
        (back,) = library.duplicates(shared.other.video_id)
        assert forth == shared
        assert (back.one.video_id, back.other.video_id) == (shared.other.video_id, shared.one.video_id)
        assert is_near(back.other.span, shared.one.span.start, shared.one.span.end)
    assert library.duplicates(library.resolve("3")) == []


def test_groups_and_blocks_of_any_size_find_the_same(library: Library, monkeypatch: pytest.MonkeyPatch):
    expected = library.duplicates()
    monkeypatch.setattr(duplicates, "GROUP_ROWS", 60)
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 7)
    assert library.duplicates() == expected


def test_each_of_three_copies_is_found_beside_each(tmp_path: Path):
    copies = {name: host(seed, 9.0 + seed, 1, 10, 30) for name, seed in (("a", 21), ("b", 22), ("c", 23))}
    library_of(tmp_path / "lib", copies | {f"own-{seed}": own(seed) for seed in range(31, 39)})
    with Library.open(tmp_path / "lib", create=False) as library:
        assert sorted(names(library.duplicates())) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_library_of_two_copies_is_enough(tmp_path: Path):
    library_of(tmp_path / "lib", {"a": cut((Film(1), 0, 60)), "b": cut((Film(1), 0, 60), phase=0.5, noise=0.1)})
    with Library.open(tmp_path / "lib", create=False) as library:
        (found,) = library.duplicates()
    assert is_near(found.one.span, 0, 60)
    assert is_near(found.other.span, 0, 60)


def test_repeats_within_a_video_are_found_when_asked_for(tmp_path: Path):
    twice = cut((Film(1), 0, 30), (Film(2), 0, 20), (Film(1), 5, 25), (Film(2), 20, 30), noise=0.1)
    library_of(tmp_path / "lib", {"twice": twice} | {f"own-{seed}": own(seed) for seed in range(3, 9)})
    with Library.open(tmp_path / "lib", create=False) as library:
        assert library.duplicates() == []
        (found,) = library.duplicates(repeats=True)
        assert names([found]) == [("twice", "twice")]
        assert is_near(found.one.span, 5, 25)
        assert is_near(found.other.span, 50, 70)
        assert library.duplicates(found.one.video_id, repeats=True) == [found]


def test_a_still_and_a_cut_between_stills_that_two_videos_share_are_no_duplicate(tmp_path: Path):
    videos = {
        f"video-{seed}": cut((STILL, 0, 9), (Film(98, still=True), 0, 9), (Film(seed), 0, 30), noise=0.001, seed=seed) for seed in (1, 2, 3)
    }
    library_of(tmp_path / "lib", videos)
    with Library.open(tmp_path / "lib", create=False) as library:
        assert library.duplicates() == []


def test_one_video_shares_nothing(tmp_path: Path):
    library_of(tmp_path / "lib", {"only": own(1)})
    with Library.open(tmp_path / "lib", create=False) as library:
        assert library.duplicates() == []
        assert library.duplicates(1, repeats=True) == []


def test_a_video_that_is_removed_meanwhile_is_left_out(library: Library, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duplicates, "GROUP_ROWS", 60)
    gone = library.resolve("2")
    told = []

    def remove(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            library.remove(gone)

    assert names(library.duplicates(on_progress=remove)) == [("own-1", "host-1")]


def test_progress_counts_up_to_the_total(library: Library):
    told: list[tuple[int, int]] = []
    library.duplicates(on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, len(VIDEOS)) for done in range(1, len(VIDEOS) + 1)]


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(library: Library, seconds: float):
    with pytest.raises(InputError, match=f"min_seconds must be positive and finite, got {seconds:g}"):
        library.duplicates(min_seconds=seconds)


def test_an_unknown_video_is_refused(library: Library):
    with pytest.raises(UnknownVideo, match="holds no video 77"):
        library.duplicates(77)


def test_an_empty_library_is_refused(tmp_path: Path):
    library_of(tmp_path / "lib", {})
    with Library.open(tmp_path / "lib", create=False) as library, pytest.raises(InputError, match="holds no video yet: vlm add"):
        library.duplicates()


def test_no_library_is_made(tmp_path: Path):
    with pytest.raises(LibraryNotFound):
        Library.open(tmp_path / "none", create=False)
