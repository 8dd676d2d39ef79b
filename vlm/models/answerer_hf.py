"""Any image-text-to-text model of transformers as an answerer: it is shown the frames of the evidence and asked.

An answer's probability is that of saying exactly it: the product of the probabilities of its tokens and of the end that follows. Options
compete by this probability, the shares being P(this option | one of the options). It is not divided by the number of tokens: that would
favour long options, whose later tokens follow from their first. Where short options profit, ``prior`` shows by how much.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.encoders.device import has_bfloat16, resolve_device
from vlm.encoders.hub import HubModel, transformers_folder
from vlm.encoders.weights import read_json, sharded_files
from vlm.errors import BackendUnavailable, EncoderError, InputError, QueryError, WeightsUnavailable
from vlm.models.plain import check_options
from vlm.types import Answer

if TYPE_CHECKING:
    from pathlib import Path

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
# Frames that are shown at most; a model whose context is too short for them is shown fewer.
MOST_FRAMES = 16
MOST_NEW_TOKENS = 32
_OTHERWISE = "ask without --answerer"
# What processors raise when they are given no pictures and cannot do without.
_NEEDS_PICTURES = (TypeError, ValueError, AttributeError, KeyError, IndexError)


def load_answerer(spec: str, *, device: str = "auto", offline: bool = False) -> TransformersAnswerer:
    """The answerer that ``hf:ORG/NAME`` or ``hf:FOLDER`` names: in bfloat16 on a GPU that has it, else in float32.

    Raises:
        InputError: the spec has another form.
        WeightsUnavailable: files are not to be had, damaged, or lack weights.
        EncoderError: it is no image-text-to-text model.
        BackendUnavailable: the device is missing, or too small for the weights.
    """
    rest = spec.removeprefix("hf:")
    if rest in (spec, ""):
        raise InputError(f"answerer {spec!r} is unknown: write hf:ORG/NAME for a model of the hub, or hf:FOLDER for one on this disk")
    place = resolve_device(device)
    folder, name = transformers_folder(HubModel(spec, rest, _OTHERWISE), SMALL_FILES, offline=offline)
    read_json(folder / "config.json")
    sharded_files(folder)
    model = _load_model(folder, spec, torch.bfloat16 if place.type == "cuda" and has_bfloat16(place) else torch.float32)
    processor = _load_processor(folder, spec)
    try:
        model.to(place)
    except torch.OutOfMemoryError as error:
        raise BackendUnavailable(f"the weights of answerer {spec!r} do not fit on {place}: use device='cpu' or a smaller one") from error
    return TransformersAnswerer(name, model, processor, place)


class TransformersAnswerer:
    """A loaded model with its processor, as an Answerer; made by ``load_answerer``."""

    def __init__(self, name: str, model: Any, processor: Any, device: torch.device) -> None:
        self._name, self._model, self._processor, self._device = name, model, processor, device
        ends = model.generation_config.eos_token_id
        ends = processor.tokenizer.eos_token_id if ends is None else ends
        self._ends: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self._context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        takes = inspect.signature(model.forward).parameters
        self._keeps_logits = "logits_to_keep" in takes
        needs_pictures = "pixel_values" in takes and takes["pixel_values"].default is inspect.Parameter.empty
        self._reads_text_alone = not needs_pictures and self._can_read_text_alone()

    @property
    def name(self) -> str:
        """The spec that loads it again."""
        return self._name

    @torch.inference_mode()
    def answer(self, question: str, frames: NDArray[np.uint8], times: Sequence[float], *, options: Sequence[str] = ()) -> Answer:
        """The likeliest option; without options what the model says, token by token the likeliest, at most MOST_NEW_TOKENS of them.

        At most MOST_FRAMES frames are shown, evenly chosen. ``prior`` is None where the model cannot be asked without a picture.

        Raises:
            InputError: no frames, or of another form; one option, or options twice. QueryError: the question is too long for the model.
            BackendUnavailable: the device has too little memory.
        """
        _check_frames(frames, times)
        if options:
            check_options(options)
        with _enough_memory(self._name, self._device):
            shares = self._shares(self._shown(question, frames, times, options), options)
            prior = self._shares(self._inputs(_asked(question, [], options), []), options) if self._reads_text_alone else None
        text, probability = shares[0]
        return Answer(text=text, probability=probability, options=shares, evidence=(), prior=prior)

    # Prompts

    def _shown(self, question: str, frames: NDArray[np.uint8], times: Sequence[float], options: Sequence[str]) -> _Prompt:
        """The prompt with as many frames as the model's context has room for."""
        count = min(MOST_FRAMES, len(frames))
        while True:
            chosen = np.linspace(0, len(frames) - 1, count + 2)[1:-1] if count < len(frames) else np.arange(count)
            places = chosen.round().astype(int).tolist()
            prompt = self._inputs(_asked(question, [float(times[place]) for place in places], options), [frames[place] for place in places])
            length = prompt.inputs["input_ids"].shape[1] + MOST_NEW_TOKENS
            if self._context is None or length <= self._context:
                return prompt
            if count == 1:
                raise QueryError(
                    f"the question and one frame take {length} tokens, answerer {self._name!r} has room for {self._context}: "
                    "ask a shorter question, or take an answerer with a longer context"
                )
            count //= 2

    def _inputs(self, text: str, pictures: Sequence[NDArray[np.uint8]]) -> _Prompt:
        """The model's inputs for the pictures and, after them, the text."""
        if getattr(self._processor, "chat_template", None):
            content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
            words = self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        else:
            mark = str(getattr(self._processor, "image_token", "") or "")
            words = f"{mark * len(pictures)}\n{text}\nAnswer:".lstrip()
        given: dict[str, Any] = {"images": list(pictures)} if pictures else {}
        begin = self._processor.tokenizer.bos_token
        if begin and words.startswith(begin):
            given["add_special_tokens"] = False  # the template has begun the text, and the tokenizer would once more
        inputs = self._processor(text=words, return_tensors="pt", **given)
        dtype = self._model.dtype
        return _Prompt(words, {name: _moved(value, self._device, dtype) for name, value in inputs.items()})

    def _can_read_text_alone(self) -> bool:
        try:
            self._inputs("What is this?", [])
        except _NEEDS_PICTURES:
            return False
        return True

    # Answers

    def _shares(self, prompt: _Prompt, options: Sequence[str]) -> tuple[tuple[str, float], ...]:
        """Answers with their probabilities, best first: the options, or the one that the model says."""
        if not options:
            return (self._said(prompt),)
        shares = torch.stack(self._log_probabilities(prompt, options)).softmax(dim=0).tolist()
        return tuple(sorted(zip(options, shares, strict=True), key=lambda pair: -pair[1]))

    def _said(self, prompt: _Prompt) -> tuple[str, float]:
        made = self._model.generate(
            **prompt.inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=MOST_NEW_TOKENS,
            pad_token_id=self._processor.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = made.sequences[0, -len(made.logits) :]
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return text, float(self._log_probability(torch.cat(made.logits), tokens).exp().clamp(max=1.0))

    def _log_probabilities(self, prompt: _Prompt, texts: Sequence[str]) -> list[Tensor]:
        """Of each text and the end after it, one forward pass each: memory does not grow with the number of texts."""
        ends = self._ends[:1]
        gap = "" if prompt.words[-1:].isspace() else " "
        before, *whole = (self._tokens(prompt.words + after) for after in ("", *(gap + text for text in texts)))
        # A tokenizer may join the prompt's last characters with the first of a text: tokens count from where the prompts part.
        shared = min(_common(before, tokens) for tokens in whole)
        kept = prompt.inputs["input_ids"].shape[1] - (len(before) - shared)
        return [self._log_probability_after(prompt, kept, [*tokens[shared:], *ends]) for tokens in whole]

    def _log_probability_after(self, prompt: _Prompt, kept: int, tokens: list[int]) -> Tensor:
        said = torch.tensor(tokens, device=self._device)
        length = prompt.inputs["input_ids"].shape[1]
        inputs = dict(prompt.inputs)
        for name, value in inputs.items():
            if name == "input_ids":
                inputs[name] = torch.cat([value[:, :kept], said[None]], dim=1)
            elif isinstance(value, Tensor) and value.shape[:2] == (1, length) and "pixel" not in name:
                # Masks and types of tokens: an answer's tokens are text, as the prompt's last is.
                inputs[name] = torch.cat([value[:, :kept], value[:, -1:].repeat_interleave(len(tokens), dim=1)], dim=1)
        # All logits of a long prompt would take more memory than the model.
        only_last = {"logits_to_keep": len(tokens) + 1} if self._keeps_logits else {}
        logits = self._model(**inputs, **only_last).logits[0, -len(tokens) - 1 : -1]
        return self._log_probability(logits, said)

    def _log_probability(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of ``tokens`` (t,) under ``logits`` (t, words); any of the tokens that end an answer is the same end."""
        logs = logits.double().log_softmax(dim=-1)
        each = logs.gather(1, tokens[:, None])[:, 0]
        if self._ends:
            ends = torch.tensor(self._ends, device=tokens.device)
            each = torch.where(torch.isin(tokens, ends), logs[:, ends].logsumexp(dim=-1), each)
        return each.sum()

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._processor.tokenizer(text, add_special_tokens=False).input_ids
        return tokens


class _Prompt:
    """A prompt as text, pictures as their marks, and as the model's inputs."""

    def __init__(self, words: str, inputs: dict[str, Any]) -> None:
        self.words, self.inputs = words, inputs


def _asked(question: str, times: Sequence[float], options: Sequence[str]) -> str:
    """The words of the prompt: what the pictures are, the question, and what may be answered."""
    shown = ""
    if len(times) == 1:
        shown = f"The picture is a frame of a video, at {times[0]:.1f} s.\n"
    elif times:
        shown = f"The pictures are {len(times)} frames of one video in order of time, at {', '.join(f'{at:.1f}' for at in times)} s.\n"
    how = "Answer with one of these, word for word:\n" + "\n".join(options) if options else "Answer in a few words."
    return f"{shown}{question}\n{how}"


def _common(some: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(some), len(others)))


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def _check_frames(frames: NDArray[np.uint8], times: Sequence[float]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise InputError(f"frames must be uint8 (n, h, w, 3), got {frames.dtype} {frames.shape}")
    if not len(frames):
        raise InputError("an answerer needs at least one frame of evidence, got none: decode the frames of a moment first")
    if len(times) != len(frames):
        raise InputError(f"each frame needs its time, got {len(frames)} frames and {len(times)} times")
    if np.any(np.diff(times) < 0):
        raise InputError(f"frames must be in order of time, got times {list(times)}")


@contextmanager
def _enough_memory(name: str, device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BackendUnavailable(f"answering with {name!r} does not fit on {device}: use device='cpu' or a smaller answerer") from error


# Files


def _load_model(folder: Path, spec: str, dtype: torch.dtype) -> Any:
    import transformers

    # Named torch_dtype before version 5. Loaded in float32 first, a large model would take twice its memory.
    wanted = {"dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype": dtype}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(f"transformers cannot read what {spec!r} in {str(folder)!r} is: {error}") from error
    if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or getattr(config, "is_encoder_decoder", False):
        raise EncoderError(
            f"answerer {spec!r} is a {config.model_type!r} model, which does not go on writing after pictures and text: "
            "take one that the hub lists under image-text-to-text"
        )
    try:
        model, found = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, config=config, trust_remote_code=False, local_files_only=True, weights_only=True, output_loading_info=True, **wanted
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EncoderError(f"transformers cannot load {spec!r} from {str(folder)!r}: {error}") from error
    # transformers fills these with random numbers and goes on.
    absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if absent:
        raise WeightsUnavailable(f"the weights of {spec!r} in {str(folder)!r} lack {len(absent)} tensors, {absent[0]!r} among them")
    return model.eval()


def _load_processor(folder: Path, spec: str) -> Any:
    from transformers import AutoProcessor

    try:
        processor: Any = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsUnavailable(f"the processor of {spec!r} in {str(folder)!r} cannot be loaded: {error}") from error
    except ImportError as error:
        raise BackendUnavailable(f"the processor of answerer {spec!r} needs another package: {str(error).strip()}") from error
    pictures = getattr(processor, "image_processor", None)
    if pictures is None or getattr(processor, "tokenizer", None) is None:
        raise WeightsUnavailable(
            f"folder {str(folder)!r} of {spec!r} has no processor for pictures and text (processor_config.json, preprocessor_config.json, "
            "tokenizer files): copy the whole repository"
        )
    # Several frames of a video tell more than the tiles of one, each of which takes as many tokens.
    if hasattr(pictures, "do_image_splitting"):
        pictures.do_image_splitting = False
    return processor
