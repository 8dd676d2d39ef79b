from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vlm.types import Framing, Interpolation, Resize
from vlm.video.geometry import compose, place
from vlm.video.scale import Scaler, orientation_of

# The bar of the project: mean absolute difference, in grey levels, from the model's own transform.
MEAN_DIFFERENCE = 2.0

FILTERS: dict[str, Image.Resampling] = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
FILES = [
    "clips/sam2_juggle.mp4",
    "clips/nasa_13013.mp4",
    "clips/mdn_flower.webm",
    "clips/intel_prev_face.gif",
    "awkward/exo_portrait_4k60.mp4",  # larger than what is converted at full size; turned by 90 degrees
    "awkward/exo_8k24fps_300ms.mp4",
    "awkward/torchcodec_bt709_full_range.mp4",
    "awkward/torchcodec_h265_10bits.mp4",
    "awkward/exo_sample_rotate_and_reflect.mp4",
    "awkward/exo_water_180_mvhevc_5frames.mov",
    "awkward/mp4parse_h264_white_frame_sar.mp4",
    "awkward/moviepy_-video-with-dash-.mp4",  # one pixel
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_within_two_grey_levels_of_pillow_on_the_full_frame(shared: Path, file: str, interpolation: Interpolation) -> None:
    with av.open(str(shared / "data" / file)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        pixel_aspect = stream.sample_aspect_ratio
    orientation = orientation_of(frame)
    upright = np.ascontiguousarray(orientation.upright(frame.to_ndarray(format="rgb24")))
    displayed = orientation.displayed(frame.width, frame.height, pixel_aspect)
    modes: tuple[Resize, ...] = ("shortest", "longest", "squash")
    for resize in modes:
        framing = Framing(height=224, width=224, resize=resize, interpolation=interpolation, fill=9)
        placed = place(*displayed, framing)
        resized = Image.fromarray(upright).resize((placed.width, placed.height), FILTERS[interpolation])
        expected = compose(np.asarray(resized), placed, framing)
        got = Scaler(framing, pixel_aspect=pixel_aspect).pixels(frame)
        assert np.abs(got.astype(int) - expected).mean() <= MEAN_DIFFERENCE, resize


@pytest.mark.parametrize("file", ["clips/sam2_juggle.mp4", "clips/nasa_13013.mp4", "awkward/torchcodec_bt709_full_range.mp4"])
def test_scaling_from_the_planes_gives_the_pixels_of_ffmpegs_own_scaler(shared: Path, file: str) -> None:
    with av.open(str(shared / "data" / file)) as container:
        frame = next(container.decode(video=0))
    framing = Framing(height=224, width=224, resize="squash", interpolation="bilinear", scale_from="planes")
    expected = frame.reformat(224, 224, "rgb24", interpolation="BILINEAR").to_ndarray()
    assert np.abs(Scaler(framing, pixel_aspect=None).pixels(frame).astype(int) - expected).mean() <= 0.05


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_phone_held_in_any_way_gives_an_upright_picture(shared: Path, degrees: int) -> None:
    # The files are named by the clockwise turn that makes their lettering legible (looked at by eye).
    with av.open(str(shared / f"data/awkward/decord_video_{degrees}.mov")) as container:
        frame = next(container.decode(video=0))
    upright = np.rot90(frame.to_ndarray(format="rgb24"), -degrees // 90)
    expected = np.asarray(Image.fromarray(np.ascontiguousarray(upright)).resize((64, 64), Image.Resampling.BICUBIC))
    got = Scaler(Framing(height=64, width=64, resize="squash"), pixel_aspect=None).pixels(frame)
    assert np.abs(got.astype(int) - expected).mean() <= MEAN_DIFFERENCE
