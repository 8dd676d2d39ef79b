"""Which packets a decoder is fed so that it gives the wanted frames, and no more than that. A pure function over the packet table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.video.timeline import Packets

# Feeding so few packets that nobody needs costs less than draining and restarting a decoder.
SHORT_GAP = 8
# So few packets at the end of a file are fed although nobody needs them: damage in a short file, or at the end of one, is then seen.
SHORT_END = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs of packets to feed in the order of decoding. Before each run the decoder is drained and flushed.

    Shapes:
        runs: (r, 2) int64, half-open positions ``[first, last)`` in the packet table, ascending and apart.
        is_wanted: (n,) bool, the packets whose frames are asked for.
    """

    runs: NDArray[np.int64]
    is_wanted: NDArray[np.bool_]


def plan_runs(
    packets: Packets, wanted: NDArray[np.int64], *, whole_groups: bool = False, short_gap: int = SHORT_GAP, short_end: int = SHORT_END
) -> Plan:
    """The runs that give the frames of the packets at the positions ``wanted`` (k,).

    A frame needs everything from the last keyframe before it, in decoding order, that is shown no later than itself: pictures that follow
    a keyframe but are shown before it (leading pictures of an open group) also refer to the group before. Runs closer than ``short_gap``
    packets are joined, and a short end of the file is read to the last packet. ``whole_groups`` goes on to the next keyframe: for streams
    in which two packets make one frame.
    """
    is_wanted = np.zeros(len(packets), dtype=np.bool_)
    is_wanted[wanted] = True
    keys = np.flatnonzero(packets.is_key)
    runs: list[list[int]] = []
    for position in np.flatnonzero(is_wanted).tolist():
        first = _start(packets, keys, position)
        last = _next_key(keys, position, len(packets)) if whole_groups else position + 1
        # Starts never fall below the start of the previous run: the wanted frame before this one would have needed it too.
        while runs and first - runs[-1][1] < short_gap:
            earlier = runs.pop()
            first, last = min(first, earlier[0]), max(last, earlier[1])
        runs.append([first, last])
    if runs and len(packets) - runs[-1][1] <= short_end:
        runs[-1][1] = len(packets)
    return Plan(np.asarray(runs, dtype=np.int64).reshape(-1, 2), is_wanted)


def _start(packets: Packets, keys: NDArray[np.int64], position: int) -> int:
    """The keyframe from which decoding reaches the packet at ``position``; the start of the file where there is none."""
    place = int(np.searchsorted(keys, position, side="right")) - 1
    while place >= 0 and packets.pts[keys[place]] > packets.pts[position]:
        place -= 1
    return int(keys[place]) if place >= 0 else 0


def _next_key(keys: NDArray[np.int64], position: int, end: int) -> int:
    place = int(np.searchsorted(keys, position, side="right"))
    return int(keys[place]) if place < len(keys) else end
