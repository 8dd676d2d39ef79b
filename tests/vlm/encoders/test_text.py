"""Texts: the shortened run of causal towers, per-token vectors, and what lies beyond the context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.small_models import HFKind, OpenClipKind
from tests.vlm.encoders.conftest import TEXTS
from vlm.encoders.base import text_codec
from vlm.encoders.codec import hub_codec
from vlm.encoders.registry import load_encoder
from vlm.encoders.towers import TorchEncoder, unread_tail

Load = Callable[..., TorchEncoder]


@pytest.mark.parametrize("kind", ["clip", "clip-quickgelu", "custom-causal", "timm"])
def test_causal_open_clip_tower_runs_up_to_the_last_end_of_text(kind: OpenClipKind, open_clip_encoder: Load) -> None:
    """That its vectors stay those of the full run is what test_vectors.py compares."""
    encoder = open_clip_encoder(kind)
    tokens = encoder.tokenize(["a dog", "a red car"])
    _, per_token, mask = encoder.forward_text(tokens)
    assert per_token.shape[1] == mask.shape[1] == 5
    assert tokens.shape[1] == encoder._towers.context


@pytest.mark.parametrize("kind", ["clip", "clip-quickgelu"])
def test_causal_transformers_tower_runs_up_to_the_last_end_of_text(kind: HFKind, hf_encoder: Load) -> None:
    encoder = hf_encoder(kind)
    _, per_token, _ = encoder.forward_text(encoder.tokenize(["a dog", "a red car"]))
    assert per_token.shape[1] == 5


def test_towers_that_see_both_ways_run_in_full(open_clip_encoder: Load, hf_encoder: Load) -> None:
    for encoder in (open_clip_encoder("siglip"), open_clip_encoder("borrowed-text"), hf_encoder("siglip"), hf_encoder("siglip2")):
        tokens = encoder.tokenize(["a dog"])
        assert encoder.forward_text(tokens)[1].shape[1] == tokens.shape[1]


def test_a_longer_neighbour_does_not_change_a_text(open_clip_encoder: Load, hf_encoder: Load) -> None:
    for encoder in (open_clip_encoder("clip"), open_clip_encoder("custom-causal"), open_clip_encoder("siglip"), hf_encoder("clip")):
        alone = encoder.encode_text(["a dog"])
        beside = encoder.encode_text(["a dog", TEXTS[3]])[:1]
        np.testing.assert_allclose(alone, beside, atol=1e-5)


def test_the_token_that_is_pooled_is_the_pooled_vector(open_clip_encoder: Load, hf_encoder: Load) -> None:
    for encoder in (open_clip_encoder("clip"), open_clip_encoder("custom-causal"), hf_encoder("clip")):
        tokens = encoder.encode_text_tokens(TEXTS)
        last = tokens.mask.sum(axis=1) - 1
        ends = tokens.vectors[np.arange(len(TEXTS)), last]
        np.testing.assert_allclose(ends / np.linalg.norm(ends, axis=1, keepdims=True), encoder.encode_text(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip", "coca", "borrowed-text", "custom-causal"])
def test_tokens_outside_the_mask_are_zero_and_inside_are_not(kind: OpenClipKind, open_clip_encoder: Load) -> None:
    tokens = open_clip_encoder(kind).encode_text_tokens(["a dog", "a dog runs over red grass"])
    assert tokens.mask.sum(axis=1).tolist() == [4, 8] if kind != "coca" else tokens.mask.any()
    assert not tokens.vectors[~tokens.mask].any()
    assert (np.linalg.norm(tokens.vectors[tokens.mask], axis=1) > 0).all()


def test_tokens_of_several_batches_keep_their_rows(open_clip_encoder: Load) -> None:
    texts = ["a dog"] * 70 + [TEXTS[3]]
    tokens = open_clip_encoder("clip").encode_text_tokens(texts)
    alone = open_clip_encoder("clip").encode_text_tokens(texts[-1:])
    count = int(alone.mask.sum())
    np.testing.assert_allclose(tokens.vectors[-1, :count], alone.vectors[0], atol=1e-5)
    assert tokens.mask.sum(axis=1).tolist() == [4] * 70 + [count]


def test_siglip_2_reads_lower_case(hf_encoder: Load) -> None:
    """Its published tokenizer files keep case, and its training did not: the lowering is ours."""
    encoder = hf_encoder("siglip2")
    assert torch.equal(encoder.tokenize(["A DOG"]), encoder.tokenize(["a dog"]))
    assert encoder._towers.tokenize.cleaned(["A DOG"]) == ["a dog"]  # type: ignore[attr-defined]
    assert hf_encoder("siglip")._towers.tokenize.cleaned(["A DOG"]) == ["A DOG"]  # type: ignore[attr-defined]


def test_languages_follow_the_vocabulary(open_clip_encoder: Load, hf_encoder: Load) -> None:
    assert open_clip_encoder("clip").languages == ("en",)
    assert hf_encoder("clip").languages == ("en",)
    assert hf_encoder("siglip2").languages == ("*",)


def test_unread_text_starts_with_the_first_word_that_is_not_read(open_clip_encoder: Load, hf_encoder: Load) -> None:
    clip = open_clip_encoder("clip")  # 77 tokens, 2 of them special, one a word here
    assert clip.unread_text(" ".join(["dog"] * 75)) == ""
    assert clip.unread_text(" ".join(["dog"] * 75 + ["cat", "runs"])) == "cat runs"
    assert hf_encoder("clip").unread_text(" ".join(["dog"] * 14 + ["waves on a beach"])) == "waves on a beach"


@given(st.text(alphabet=st.sampled_from("ab \n一二"), max_size=60), st.integers(2, 12))
def test_unread_tail_is_the_end_of_the_text_and_the_rest_fits(text: str, context: int) -> None:
    def num_tokens(part: str) -> int:
        return 2 + len(part.replace("\n", " ").replace(" ", ""))

    tail = unread_tail(text, num_tokens, context)
    assert text.endswith(tail)
    assert num_tokens(text[: len(text) - len(tail)]) <= context
    assert (tail == "") == (num_tokens(text) <= context)


def test_unread_tail_of_a_text_without_spaces_is_cut_between_characters() -> None:
    assert unread_tail("一二三四" * 20, lambda part: len(part) + 2, 12) == ("一二三四" * 20)[10:]


def test_texts_are_encoded_by_several_threads_at_once(hf_encoder: Load) -> None:
    from concurrent.futures import ThreadPoolExecutor

    encoder = hf_encoder("clip")
    texts = [" ".join(TEXTS[0].split()[: 1 + i % 3]) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda text: encoder.encode_text([text])[0], texts))
    np.testing.assert_allclose(np.stack(rows), encoder.encode_text(texts), atol=1e-5)


def test_folder_of_fixture_is_the_specs_own(open_clip_folder: Callable[..., Path], open_clip_encoder: Load) -> None:
    assert open_clip_encoder("clip").name == f"openclip:local-dir:{open_clip_folder('clip')}"


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_tokenizer_of_open_clip_speaks(kind: OpenClipKind, open_clip_encoder: Load) -> None:
    _check_codec(open_clip_encoder(kind))


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_a_tokenizer_of_transformers_speaks(kind: HFKind, hf_encoder: Load) -> None:
    _check_codec(hf_encoder(kind))


def test_pockets_tokenizer_speaks() -> None:
    encoder = load_encoder("pocket")
    _check_codec(encoder)  # type: ignore[arg-type]
    codec = text_codec(encoder)
    assert codec is not None
    for text in ("does the red circle bounce?", "one, then two zyx", "a medium-sized disc isn't red, and/or blue"):
        assert codec.decode(codec.encode(text)) == text


def _check_codec(encoder: TorchEncoder) -> None:
    """What is encoded is what the tower reads between start and end, and comes back as words."""
    codec = text_codec(encoder)
    assert codec is not None
    ids = codec.encode("a dog")
    assert codec.start not in ids
    assert codec.end not in ids
    assert codec.decode([codec.start, *ids, codec.end]) == codec.decode(ids) == "a dog"
    assert max(*ids, codec.start, codec.end) < codec.vocabulary_size
    read = encoder.tokenize(["a dog"])[0].tolist()
    assert any(read[first : first + len(ids)] == ids for first in range(len(read)))


def test_a_tokenizer_that_closes_no_text_does_not_speak() -> None:
    class Endless:
        eos_token_id = sep_token_id = None

    assert hub_codec(Endless()) is None
