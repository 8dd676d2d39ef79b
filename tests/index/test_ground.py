"""``Library.ground``: the confidence of moments is that of a hit with the same rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Demo
from vlm import Library
from vlm.index.confidence import FEWEST_SEGMENTS, Confidence
from vlm.index.ground import sure
from vlm.index.segments import pool
from vlm.types import Features, Grounded, Moment, Span

QUERY = "a small red circle bounces"


def grounded(*spans: tuple[float, float]) -> Grounded:
    return Grounded(text=QUERY, moments=tuple(Moment(Span(*span), 1.0) for span in spans), curve=np.zeros(4, np.float32))


def test_a_moment_is_as_sure_as_the_mean_of_its_rows_by_hand():
    vectors = np.eye(4, dtype=np.float32)
    features = Features(vectors, np.array([0.0, 1.0, 2.0, 4.0]), 6.0)
    measure = Confidence(np.zeros(4, np.float32), np.linspace(-1.0, 1.0, 2001), (0.0, 0.05))
    query = np.array([0.0, 0.6, 0.8, 0.0], np.float32)
    found = sure(grounded((1.0, 4.0), (0.0, 1.0), (4.1, 4.2)), query, features, measure, pool)
    # The second row and the third: their unit mean has cosine (0.6 + 0.8) / sqrt(2) with the query. The others have none of it.
    expected = measure.false_alarm_rate(query, np.array([1.4 / np.sqrt(2), 0.0, 0.0]))
    assert [moment.false_alarm_rate for moment in found.moments] == pytest.approx(expected.tolist(), rel=1e-4)
    assert expected[1] == pytest.approx(0.5, abs=0.001)
    confidences = [moment.confidence for moment in found.moments]
    assert confidences == pytest.approx(measure.of(query, np.array([1.4 / np.sqrt(2), 0.0, 0.0])).tolist(), rel=1e-4)


def test_what_has_no_moment_stays_so():
    measure = Confidence(np.zeros(4, np.float32), np.zeros(3), (0.0, 1.0))
    features = Features(np.eye(4, dtype=np.float32), np.arange(4.0), 4.0)
    assert sure(grounded(), np.ones(4, np.float32), features, measure, pool).moments == ()


def test_a_moment_with_the_rows_of_a_hit_is_as_sure_as_the_hit(plain_demo: Demo):
    with Library.open(plain_demo.library, create=False) as library:
        assert library.stats().num_segments >= FEWEST_SEGMENTS
        same = 0
        for hit in library.search(QUERY, top_k=24, second_look=False).hits:
            for moment in library.ground([QUERY], hit.video_id)[0].moments:
                assert moment.confidence is not None
                if moment.span == hit.span:
                    same += 1
                    assert moment.confidence == pytest.approx(hit.confidence, abs=1e-3)
                    assert moment.false_alarm_rate == pytest.approx(hit.false_alarm_rate, rel=1e-2)
        assert same >= 3


def test_files_of_no_library_and_small_libraries_have_no_confidence(demo: Demo, library: Library, videos: Path, tmp_path: Path):
    assert [moment.confidence for moment in library.ground(["white"], videos / "blue then white.mp4")[0].moments[:1]] == [None]
    with Library.open(demo.library, create=False) as held:
        outside = Path(shutil.copy(held.videos()[0].path, tmp_path / "outside.mp4"))
        assert held.ground([QUERY], outside)[0].moments[0].confidence is None
