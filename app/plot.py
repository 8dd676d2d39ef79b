"""Curves over time, drawn into a PNG: how relevant each moment of a video is to a query, and the moments that were found."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.app.out import write_new
from vlm.app.render import clock_time
from vlm.types import Grounded

_WIDTH_INCHES, _ROW_INCHES = 10.0, 2.0
_LINE, _MARK = "#1f5fa8", "#f0a030"
_MOST_SHOWN = 3


def write_plot(path: Path, title: str, times: NDArray[np.float64], end: float, found: Sequence[Grounded]) -> None:
    """Draws one row a query: its curve, a step for each row of the video, and its best moments as shades, the best darkest.

    Args:
        times: (t,) seconds at which rows begin; ``end``: of the last.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(_WIDTH_INCHES, _ROW_INCHES * len(found) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.append(times, end)
    for axes, one in zip(rows, found, strict=True):
        for rank, moment in reversed(list(enumerate(one.moments[:_MOST_SHOWN]))):
            axes.axvspan(moment.span.start, moment.span.end, color=_MARK, alpha=0.55 / (rank + 1), linewidth=0)
        axes.stairs(one.curve, edges, baseline=None, color=_LINE, linewidth=1.4)
        axes.set_title(one.text if one.presence is None else f"{one.text}   (shown: {one.presence:.2f})", loc="left", fontsize=10)
        axes.set_xlim(edges[0], edges[-1])
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel("relevance", fontsize=8)
        axes.tick_params(labelsize=8)
    rows[-1].xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock_time(max(0.0, seconds))))
    figure.suptitle(title, fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    write_new(path, content.getvalue())
