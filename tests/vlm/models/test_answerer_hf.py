from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.small_answerers import AnswererKind, save_answerer
from tests.small_models import IMAGE, save_hf
from vlm.errors import BackendUnavailable, EncoderError, InputError, QueryError, WeightsUnavailable
from vlm.models import answerer_hf
from vlm.models.answerer import Answerer
from vlm.models.answerer_hf import MOST_FRAMES, MOST_NEW_TOKENS, TransformersAnswerer, load_answerer

QUESTION, OPTIONS, TIMES = "what is this?", ["red car", "dog", "the blue beach"], [0.5, 1.5, 4.0]
END = 3


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[AnswererKind, Path]:
    root = tmp_path_factory.mktemp("answerers")
    kinds: tuple[AnswererKind, ...] = ("llava", "llava-plain", "idefics")
    return {kind: save_answerer(root / kind, kind) for kind in kinds}


@pytest.fixture(scope="module", params=["llava", "llava-plain", "idefics"])
def any_folder(request: pytest.FixtureRequest, folders: dict[AnswererKind, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(scope="module")
def any_answerer(any_folder: Path) -> TransformersAnswerer:
    return load_answerer(f"hf:{any_folder}", device="cpu")


@pytest.fixture(scope="module")
def answerer(folders: dict[AnswererKind, Path]) -> TransformersAnswerer:
    return load_answerer(f"hf:{folders['llava']}", device="cpu")


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """Frames (3, h, w, 3), wider than high, that differ."""
    return np.random.default_rng(0).integers(0, 256, (3, IMAGE, IMAGE + 8, 3), dtype=np.uint8)


class Plainly:
    """The saved model used as transformers' own documents show it, with the prompt that the answerer wrote."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder).float().eval()

    def prompt(self, asked: str, count: int) -> str:
        if self.processor.chat_template is None:
            return f"{'<image>' * count}\n{asked}\nAnswer:".lstrip()
        return f"USER: {'<image>' * count}{asked} ASSISTANT:"

    def inputs(self, words: str, pictures: NDArray[np.uint8]) -> Any:
        tiles = {"do_image_splitting": False} if hasattr(self.processor.image_processor, "do_image_splitting") else {}
        given = {"images": list(pictures), **tiles} if len(pictures) else {}
        return self.processor(text=words, return_tensors="pt", **given)

    @torch.no_grad()
    def log_probability(self, words: str, pictures: NDArray[np.uint8], text: str) -> float:
        """Of the text and the end after it, token by token."""
        length = self.inputs(words, pictures)["input_ids"].shape[1]
        inputs = self.inputs(f"{words} {text}</s>", pictures)
        tokens = inputs["input_ids"][0]
        assert tokens[-1] == END
        logs = self.model(**inputs).logits[0].log_softmax(dim=-1)
        return sum(float(logs[place - 1, tokens[place]]) for place in range(length, len(tokens)))


ASKED_CHOICE = f"{QUESTION}\nAnswer with one of these, word for word:\n" + "\n".join(OPTIONS)
ASKED_OPEN = f"{QUESTION}\nAnswer in a few words."
SHOWN = "The pictures are 3 frames of one video in order of time, at 0.5, 1.5, 4.0 s.\n"


def shares_by_hand(plainly: Plainly, asked: str, pictures: NDArray[np.uint8]) -> dict[str, float]:
    words = plainly.prompt(asked, len(pictures))
    weights = {option: math.exp(plainly.log_probability(words, pictures, option)) for option in OPTIONS}
    return {option: weight / sum(weights.values()) for option, weight in weights.items()}


def test_an_option_is_as_likely_as_the_model_is_to_say_exactly_it(
    any_answerer: TransformersAnswerer, any_folder: Path, frames: NDArray[np.uint8]
):
    found = any_answerer.answer(QUESTION, frames, TIMES, options=OPTIONS)
    assert dict(found.options) == pytest.approx(shares_by_hand(Plainly(any_folder), SHOWN + ASKED_CHOICE, frames), rel=1e-4)


def test_the_prior_is_the_same_without_the_frames(any_answerer: TransformersAnswerer, any_folder: Path, frames: NDArray[np.uint8]):
    prior = any_answerer.answer(QUESTION, frames, TIMES, options=OPTIONS).prior
    assert prior is not None
    assert dict(prior) == pytest.approx(shares_by_hand(Plainly(any_folder), ASKED_CHOICE, frames[:0]), rel=1e-4)


def test_options_are_best_first_and_sum_to_one(answerer: TransformersAnswerer, frames: NDArray[np.uint8]):
    found = answerer.answer(QUESTION, frames, TIMES, options=OPTIONS)
    shares = [share for _, share in found.options]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert (found.text, found.probability) == found.options[0]
    assert found.evidence == ()


def test_an_open_answer_is_what_transformers_itself_generates(
    any_answerer: TransformersAnswerer, any_folder: Path, frames: NDArray[np.uint8]
):
    plainly = Plainly(any_folder)
    inputs = plainly.inputs(plainly.prompt(SHOWN + ASKED_OPEN, 3), frames)
    made = plainly.model.generate(**inputs, do_sample=False, max_new_tokens=MOST_NEW_TOKENS)[0, inputs["input_ids"].shape[1] :]
    assert any_answerer.answer(QUESTION, frames, TIMES).text == plainly.processor.tokenizer.decode(made, skip_special_tokens=True)


def test_an_open_answer_is_as_likely_as_its_tokens_together(
    answerer: TransformersAnswerer, folders: dict[AnswererKind, Path], frames: NDArray[np.uint8]
):
    plainly = Plainly(folders["llava"])
    inputs = plainly.inputs(plainly.prompt(SHOWN + ASKED_OPEN, 3), frames)
    length, expected = inputs["input_ids"].shape[1], 1.0
    for token in plainly.model.generate(**inputs, do_sample=False, max_new_tokens=MOST_NEW_TOKENS)[0, length:]:
        with torch.no_grad():
            expected *= float(plainly.model(**inputs).logits[0, -1].softmax(dim=-1)[token])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token[None, None]], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    assert answerer.answer(QUESTION, frames, TIMES).probability == pytest.approx(expected, rel=1e-4)


def test_the_same_question_is_answered_the_same_again(answerer: TransformersAnswerer, frames: NDArray[np.uint8]):
    assert answerer.answer(QUESTION, frames, TIMES) == answerer.answer(QUESTION, frames, TIMES)


def test_frames_in_another_order_are_another_video(answerer: TransformersAnswerer, frames: NDArray[np.uint8]):
    forwards, backwards = (answerer.answer(QUESTION, some, TIMES, options=OPTIONS) for some in (frames, frames[::-1]))
    assert forwards.prior == backwards.prior
    assert dict(forwards.options) != pytest.approx(dict(backwards.options), rel=1e-3)


def test_many_frames_are_shown_as_an_even_choice(answerer: TransformersAnswerer):
    frames = np.random.default_rng(1).integers(0, 256, (5 * MOST_FRAMES, IMAGE, IMAGE, 3), dtype=np.uint8)
    times = np.arange(len(frames)) / 2
    shown = np.linspace(0, len(frames) - 1, MOST_FRAMES + 2)[1:-1].round().astype(int)
    of_all, of_these = (answerer.answer(QUESTION, frames[rows], times[rows], options=OPTIONS) for rows in (np.arange(len(frames)), shown))
    assert dict(of_all.options) == pytest.approx(dict(of_these.options))


def test_a_model_of_a_short_context_is_shown_fewer_frames(tmp_path: Path, frames: NDArray[np.uint8]):
    short = load_answerer(f"hf:{save_answerer(tmp_path / 'short', context=120)}", device="cpu")  # three frames take 48 tokens alone
    asked = short.answer(QUESTION, frames, TIMES, options=OPTIONS).options
    middle = short.answer(QUESTION, frames[1:2], TIMES[1:2], options=OPTIONS).options
    assert dict(asked) == pytest.approx(dict(middle))
    with pytest.raises(QueryError, match="has room for 120"):
        short.answer("what is this? " * 20, frames, TIMES)


def test_a_template_that_begins_the_text_itself_does_not_begin_it_twice(
    answerer: TransformersAnswerer, folders: dict[AnswererKind, Path], tmp_path: Path, frames: NDArray[np.uint8]
):
    folder = tmp_path / "begun"
    shutil.copytree(folders["llava"], folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    begun = load_answerer(f"hf:{folder}", device="cpu")
    assert begun.answer(QUESTION, frames, TIMES, options=OPTIONS) == answerer.answer(QUESTION, frames, TIMES, options=OPTIONS)


def test_a_model_that_cannot_do_without_pictures_has_no_prior(
    folders: dict[AnswererKind, Path], frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
):
    from transformers import LlavaProcessor

    plain = LlavaProcessor.__call__

    def needs_pictures(self: Any, images: Any = None, **others: Any) -> Any:
        if images is None:
            raise ValueError("images are needed")
        return plain(self, images=images, **others)

    monkeypatch.setattr(LlavaProcessor, "__call__", needs_pictures)
    found = load_answerer(f"hf:{folders['llava']}", device="cpu").answer(QUESTION, frames, TIMES, options=OPTIONS)
    assert found.prior is None
    assert len(found.options) == 3


def test_it_is_an_answerer_named_by_the_spec_that_loads_it_again(answerer: TransformersAnswerer, folders: dict[AnswererKind, Path]):
    as_any: Answerer = answerer
    assert as_any.name == f"hf:{folders['llava']}"


def test_frames_are_refused_by_what_is_wrong_with_them(answerer: TransformersAnswerer, frames: NDArray[np.uint8]):
    with pytest.raises(InputError, match="at least one frame of evidence, got none"):
        answerer.answer(QUESTION, frames[:0], [])
    with pytest.raises(InputError, match=r"uint8 \(n, h, w, 3\), got float32"):
        answerer.answer(QUESTION, frames.astype(np.float32), TIMES)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(InputError, match="3 frames and 2 times"):
        answerer.answer(QUESTION, frames, TIMES[:2])
    with pytest.raises(InputError, match=r"order of time, got times \[4\.0, 1\.5, 0\.5\]"):
        answerer.answer(QUESTION, frames, TIMES[::-1])
    with pytest.raises(InputError, match="at least two options"):
        answerer.answer(QUESTION, frames, TIMES, options=["dog"])


def test_a_spec_of_another_form_is_refused():
    with pytest.raises(InputError, match="'openclip:ViT-B-32' is unknown: write hf:ORG/NAME"):
        load_answerer("openclip:ViT-B-32")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(WeightsUnavailable, match="gone"):
        load_answerer(f"hf:{tmp_path / 'gone'}")


def test_a_model_that_is_not_in_the_cache_is_refused_offline_with_a_way_out():
    with pytest.raises(WeightsUnavailable, match=r"'hf:nobody/no-such-model'.*stay offline.*without --answerer"):
        load_answerer("hf:nobody/no-such-model", offline=True)


def test_a_model_that_writes_no_answers_is_refused_by_its_kind(tmp_path: Path):
    with pytest.raises(EncoderError, match="is a 'clip' model"):
        load_answerer(f"hf:{save_hf(tmp_path / 'clip')}", device="cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "processor_config.json"])
def test_a_file_that_is_missing_is_an_error_that_names_the_folder(folders: dict[AnswererKind, Path], tmp_path: Path, name: str):
    folder = tmp_path / "part"
    shutil.copytree(folders["llava"], folder)
    (folder / name).unlink()
    with pytest.raises(WeightsUnavailable, match="part"):
        load_answerer(f"hf:{folder}", device="cpu")


def test_weights_that_lack_a_tensor_are_refused(folders: dict[AnswererKind, Path], tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    shutil.copytree(folders["llava"], folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in tensors if "multi_modal_projector" in name))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsUnavailable, match=r"lack 1 tensors, 'model\.multi_modal_projector"):
        load_answerer(f"hf:{folder}", device="cpu")


def test_a_model_with_code_of_its_own_is_not_run(folders: dict[AnswererKind, Path], tmp_path: Path):
    folder = tmp_path / "coded"
    shutil.copytree(folders["llava"], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(EncoderError, match="coded"):
        load_answerer(f"hf:{folder}", device="cpu")


def test_too_little_memory_is_said_with_a_way_out(
    answerer: TransformersAnswerer, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
):
    def full(self: Any, *some: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(answerer_hf.TransformersAnswerer, "_said", full)
    with pytest.raises(BackendUnavailable, match=r"does not fit on cpu: .*smaller answerer"):
        answerer.answer(QUESTION, frames, TIMES)
