"""What the READMEs print is what their commands print: over the demo's library, scores to the last digit but one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Demo
from vlm import Library
from vlm.app.render import stretch

READMES = (REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md")
QUERY = "a small orange ring hides behind a large pink square"
# What is shown with less is not there: which of those comes third hangs on the last bits of frame vectors. What is shown with less than
# SURE moves with them by some hundredths, and its ends by some tenths of a second.
THERE, SURE = 5, 50
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def outputs(path: Path) -> list[str]:
    """The blocks of output: those that name no language."""
    return [text for language, text in _BLOCK.findall(path.read_text("utf-8")) if not language]


def rows(path: Path, having: str) -> list[list[str]]:
    """The rows of the one block of output over the demo's clips that has such words, each split at its gaps."""
    (block,) = [block for block in outputs(path) if having in block and "test-24" in block]
    return [line.split() for line in block.splitlines() if ".mp4" in line]


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_the_demo_prints_what_the_readme_says(path: Path, demo: Demo):
    printed = [line.split("\t") for line in demo.out.splitlines() if line.startswith(QUERY)]
    told = rows(path, having="drew 24 clips")
    assert len(told) == len(printed) == 3
    for (rank, shown, time, *_, file), (_, real_rank, _, start, end, real_file) in zip(told, printed, strict=True):
        assert rank == real_rank
        if float(shown.rstrip("%")) < THERE:
            continue
        if float(shown.rstrip("%")) >= SURE:
            assert time == stretch(float(start), float(end))
        assert Path(file).name == Path(real_file).name
    right = re.search(r"the first hit is right for (\d) of 7 sentences", path.read_text("utf-8"))
    assert right is not None
    assert right[0] in demo.err


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_searching_the_demo_prints_what_the_readme_says(path: Path, demo: Demo):
    table, python = rows(path, having="#  shown  sure"), rows(path, having=" s  toybox")
    with Library.open(demo.library, create=False) as library:
        hits = library.search(QUERY, top_k=3).hits
    assert len(table) == len(python) == len(hits)
    for hit, (rank, shown, sure, time, _, file), (as_float, confidence, start, _, end, _, name) in zip(hits, table, python, strict=True):
        assert hit.confidence is not None
        assert int(rank) == hit.rank
        assert hit.presence is not None
        assert float(shown.rstrip("%")) == pytest.approx(100 * hit.presence, abs=4)
        assert float(as_float) == pytest.approx(hit.presence, abs=0.04)
        if 100 * hit.presence < THERE:
            continue
        assert float(sure.rstrip("%")) == pytest.approx(100 * hit.confidence, abs=2)
        assert float(confidence) == pytest.approx(hit.confidence, abs=0.02)
        is_sure = 100 * hit.presence >= SURE
        assert time == stretch(hit.span.start, hit.span.end) or not is_sure
        assert [float(start), float(end)] == pytest.approx([hit.span.start, hit.span.end], abs=0.05 if is_sure else 0.5)
        assert Path(file).name == name == Path(hit.path).name


def test_both_readmes_show_the_same_output():
    english, chinese = map(outputs, READMES)
    assert english == chinese
    assert len(english) == 4
