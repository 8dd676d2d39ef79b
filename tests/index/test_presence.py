"""Rows of a library in one reading, and what their probabilities are worth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import BLOCKS
from vlm import Library
from vlm.index.presence import curves, measure_of, measured, probability, rows_of, seconds_of, stored_rows
from vlm.index.store import Store
from vlm.types import Clock


def test_all_rows_are_those_of_each_video(library: Library, videos: Path):
    library.add(videos)
    with_all = stored_rows(Store.open(library.path))
    for record in library.videos():
        alone = rows_of(library.footage(record.video_id), record.video_id)
        mine = with_all.rows.video == record.video_id
        np.testing.assert_array_equal(with_all.rows.start[mine], alone.rows.start)
        np.testing.assert_array_equal(with_all.rows.end[mine], alone.rows.end)
        np.testing.assert_array_equal(with_all.vectors[mine], alone.vectors)
        whole = with_all.rows.whole
        assert whole.select(whole.video == record.video_id) == alone.rows.whole


@given(
    st.lists(st.integers(-(2**40), 2**40), max_size=8),
    st.fractions(Fraction(1, 10**6), Fraction(1), max_denominator=10**6),
    st.fractions(Fraction(-10), Fraction(10), max_denominator=10**6),
)
def test_seconds_are_the_floats_nearest_to_the_fractions(pts: list[int], base: Fraction, zero: Fraction):
    clock, stamps = Clock(base, zero), np.array(pts, np.int64)
    assert seconds_of(clock, stamps).tolist() == clock.seconds(stamps).tolist()


def test_of_background_rows_so_many_reach_a_false_alarm_rate():
    generator = np.random.default_rng(0)
    rows, texts = (generator.standard_normal((size, 16)).astype(np.float32) for size in (500, 800))
    rows, texts = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, texts))
    measure = measured(rows, texts[:400])
    rates = np.concatenate([measure.false_alarm_rate(text, (rows @ text).astype(np.float64)) for text in texts[400:]])
    for stated in (0.01, 0.1, 0.5):
        assert (rates <= stated).mean() == pytest.approx(stated, rel=0.15)


def test_probabilities_fall_with_the_false_alarm_rate():
    told = probability(np.array([1e-4, 0.01, 0.1, 1.0]))
    assert (np.diff(told) < 0).all()
    assert ((told > 0) & (told < 1)).all()


def test_the_measure_is_kept_until_the_library_changes(library: Library, videos: Path):
    library.add(videos)
    gear = library._gear
    seen, encoder = stored_rows(gear.store), library.load_encoder()
    made = measure_of(gear, seen, encoder)
    assert gear.store.meta("presence") == made.to_bytes()
    vectors = encoder.encode_text(["white", "red"])
    np.testing.assert_array_equal(curves(measure_of(gear, seen, encoder), seen, vectors), curves(made, seen, vectors))
    key = gear.store.meta("presence_of")
    library.remove(library.videos()[0].video_id)
    measure_of(gear, stored_rows(gear.store), encoder)
    assert gear.store.meta("presence_of") != key


def test_a_library_that_cannot_be_written_is_asked_all_the_same(library: Library, videos: Path):
    library.add(videos)
    folder = library.path
    library.close()
    with Library.open(folder, encoder=BLOCKS, read_only=True) as held:
        assert held.when('"white" or not "white"').num_found == len(held.videos())
    assert Store.open(folder).meta("presence") is None
