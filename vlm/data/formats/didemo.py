"""DiDeMo: a sentence and the stretch of a half-minute video that several people found for it (Hendricks et al. 2017).

A JSON list of ``{"annotation_id", "video", "description", "times": [[first, last], ...], "num_segments", "dl_link"}``.

Traps: ``times`` count SEGMENTS of 5 s, both ends included, one pair a person; the people differ, and which pairs count is the metric's
rule (best three); videos have 5 or 6 segments, the last may be cut short; some ids end in a bare dot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_objects, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked

SEGMENT_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedMoment:
    """A sentence and the stretches that people chose for it: first and last segment of 5 s, both included."""

    annotation_id: int
    video_id: str
    description: str
    stretches: tuple[tuple[int, int], ...]
    num_segments: int
    url: str
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id of the annotation as a text."""
        return str(self.annotation_id)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The stretches in seconds."""
        return tuple(Window(first * SEGMENT_SECONDS, (last + 1) * SEGMENT_SECONDS) for first, last in self.stretches)

    def faults(self) -> Iterator[Fault]:
        """Stretches that do not lie in the video."""
        for number, (first, last) in enumerate(self.stretches):
            if not 0 <= first <= last < self.num_segments:
                yield Fault(f"times[{number}]", f"[{first}, {last}]", f"ascends within the {self.num_segments} segments")


def read_moments(path: PathLike) -> Annotations[DescribedMoment]:
    """The moments of a file."""
    return checked((_moment(fields) for fields in read_objects(path)), unique="annotation_id")


def write_moments(path: PathLike, moments: Iterable[DescribedMoment]) -> None:
    """Writes moments."""
    write_json(path, [_moment_json(moment) for moment in moments])


def _moment(fields: Fields) -> DescribedMoment:
    return DescribedMoment(
        annotation_id=fields.integer("annotation_id"),
        video_id=fields.text("video"),
        description=fields.text("description"),
        stretches=fields.pairs("times"),
        num_segments=fields.integer("num_segments"),
        url=fields.text("dl_link"),
        extra=fields.rest(),
    )


def _moment_json(moment: DescribedMoment) -> dict[str, object]:
    return {
        "num_segments": moment.num_segments,
        "description": moment.description,
        "dl_link": moment.url,
        "times": moment.stretches,
        "video": moment.video_id,
        "annotation_id": moment.annotation_id,
        **moment.extra,
    }
