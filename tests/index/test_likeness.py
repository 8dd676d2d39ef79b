"""What surrounds the rows of a library, and what makes them comparable."""

from __future__ import annotations

import numpy as np

from tests.films import Film, cut
from vlm.index.likeness import Likeness

FILMS = [cut((Film(seed), 0, 40)).vectors for seed in range(30)]


def likeness_of(videos: list[np.ndarray]) -> Likeness:
    return Likeness.of(list(enumerate(videos)), len(videos))


def test_rows_are_spread_to_unit_length_about_the_librarys_mean():
    likeness = likeness_of(FILMS)
    rows = likeness.spread(np.concatenate(FILMS))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(rows.mean(axis=0)) < 0.1


def test_a_direction_that_all_rows_share_is_taken_out():
    shared = np.eye(FILMS[0].shape[1], dtype=np.float32)[0] * 5
    likeness = likeness_of([rows + shared for rows in FILMS])
    raw = (FILMS[0] + shared) @ (FILMS[1] + shared).T
    assert raw.min() > 20
    assert abs(likeness.spread(FILMS[0] + shared) @ likeness.spread(FILMS[1] + shared).T).mean() < 0.2


def test_rows_that_much_of_the_library_shows_have_a_level_near_one_and_own_rows_have_not():
    leader = cut((Film(99, still=True), 0, 10)).vectors
    likeness = likeness_of([np.concatenate([leader, rows]) for rows in FILMS])
    levels = likeness.surroundings(0, likeness.spread(np.concatenate([leader, FILMS[0]]))).levels
    assert levels[:10].min() > 0.9
    assert np.median(levels[10:]) < 0.5


def test_a_copy_does_not_raise_the_level_of_its_original():
    alone, beside = likeness_of(FILMS), likeness_of([*FILMS, FILMS[0]])
    levels = [found.surroundings(0, found.spread(FILMS[0])).levels for found in (alone, beside)]
    assert abs(np.median(levels[0]) - np.median(levels[1])) < 0.1


def test_the_only_video_of_a_library_is_its_own_background():
    found = likeness_of(FILMS[:1])
    levels = found.surroundings(0, found.spread(FILMS[0])).levels
    assert np.isfinite(levels).all()
    assert ((levels >= 0) & (levels <= 1)).all()


def test_stills_and_a_cut_between_them_are_not_live_and_a_film_is():
    stills = [cut((Film(seed, still=True), 0, 5)).vectors for seed in (7, 8)]
    rows = np.concatenate([stills[0], stills[1], FILMS[0]])
    likeness = likeness_of([rows, *FILMS[1:]])
    is_live = likeness.surroundings(0, likeness.spread(rows)).is_live
    assert is_live.tolist() == [False] * 10 + [True] * len(FILMS[0])


def test_two_rows_may_be_anything():
    likeness = likeness_of(FILMS)
    assert likeness.surroundings(0, likeness.spread(FILMS[0][:2])).is_live.tolist() == [True, True]
