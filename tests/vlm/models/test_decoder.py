"""Answers in words: what is generated is what the whole pass would say, and a pass can learn to say it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlm.errors import InputError
from vlm.models.decoder import AnswerDecoder, DecoderConfig
from vlm.models.interaction import Fused

CONFIG = DecoderConfig(width=8, summary_size=26, vocabulary_size=11, start=2, end=3, d_state=4)


def fused(b: int = 2, q: int = 3, t: int = 5, seed: int = 0) -> Fused:
    generator = torch.Generator().manual_seed(seed)
    text, video = torch.randn(b, q, 8, generator=generator), torch.randn(b, t, 8, generator=generator)
    text_mask, video_mask = torch.ones(b, q, dtype=torch.bool), torch.ones(b, t, dtype=torch.bool)
    text_mask[1:, 2], video_mask[1:, 3:] = False, False
    return Fused(text, text_mask, video, video_mask, video, video, torch.zeros(*video.shape[:2], 0, 0))


def summary(b: int = 2) -> Tensor:
    return torch.randn(b, 26, generator=torch.Generator().manual_seed(5))


def decoder(config: DecoderConfig = CONFIG) -> AnswerDecoder:
    torch.manual_seed(1)
    made = AnswerDecoder(config).eval()
    torch.nn.init.normal_(made.embed.weight, std=1.0)  # so that answers differ
    return made


def test_what_is_generated_is_the_likeliest_of_whole_passes() -> None:
    made, given = decoder(), fused()
    found, probability = made.generate(given, summary(), most_tokens=6)
    for item in range(2):
        alone = given.rows(torch.tensor([item]))
        said: list[int] = []
        chance = 1.0
        while len(said) < found.shape[1] and CONFIG.end not in said:
            tokens = torch.tensor([[*said, 0]])
            with torch.no_grad():
                shares = made(alone, summary()[item : item + 1], tokens, torch.ones_like(tokens, dtype=torch.bool))[0, -1].softmax(dim=-1)
            said.append(int(shares.argmax()))
            chance *= float(shares.max())
        assert found[item, : len(said)].tolist() == said
        assert (found[item, len(said) :] == CONFIG.end).all()
        assert float(probability[item]) == pytest.approx(chance, rel=1e-3)


def test_the_probability_of_what_is_generated_is_the_one_that_it_was_generated_with() -> None:
    made, given = decoder(), fused(b=1)
    found, probability = made.generate(given, summary(1), most_tokens=6)
    assert float(made.probability(given, summary(1), found)[0]) == pytest.approx(float(probability[0]), rel=1e-3)
    other = found.clone()
    other[0, 0] = (other[0, 0] + 1) % CONFIG.vocabulary_size
    assert float(made.probability(given, summary(1), other)[0]) < float(probability[0])


def test_pads_of_an_answer_change_nothing() -> None:
    made, given = decoder(), fused()
    tokens, mask = torch.tensor([[4, 5, 3], [6, 3, 0]]), torch.tensor([[True] * 3, [True, True, False]])
    other = torch.tensor([[4, 5, 3], [6, 3, 9]])
    with torch.no_grad():
        torch.testing.assert_close(made(given, summary(), tokens, mask)[1, :2], made(given, summary(), other, mask)[1, :2])


def test_no_token_sees_itself_or_those_after_it() -> None:
    made, given = decoder(), fused()
    mask = torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        one, other = (made(given, summary(), torch.tensor([row, row]), mask) for row in ([4, 5, 3], [4, 9, 3]))
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert float((one[:, 2] - other[:, 2]).abs().max()) > 1e-4


def test_an_answer_can_be_learnt_from_what_is_seen() -> None:
    made = decoder().train()
    given = fused()
    tokens, mask = torch.tensor([[4, 5, 3], [6, 3, 3]]), torch.tensor([[True] * 3, [True, True, False]])
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.02)
    for _ in range(60):
        logits = made(given, summary(), tokens, mask)
        loss: Tensor = torch.nn.functional.cross_entropy(logits[mask], tokens[mask])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found, probability = made.eval().generate(given, summary(), most_tokens=4)
    assert found.tolist() == [[4, 5, 3], [6, 3, 3]]
    assert float(probability.min()) > 0.5


def test_a_token_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="end must be a token of the 11 there are, got 11"):
        DecoderConfig(width=8, summary_size=26, vocabulary_size=11, start=2, end=11)


def test_an_answer_of_no_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="got 0"):
        decoder().generate(fused(), summary(), most_tokens=0)
