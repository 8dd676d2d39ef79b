"""Answers in words: what is generated is what the whole pass would say, and a pass can learn to say it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlm.errors import InputError
from vlm.models.decoder import AnswerDecoder, DecoderConfig
from vlm.models.heads import LOOKS, Evidence
from vlm.models.interaction import Fused

CONFIG = DecoderConfig(width=8, summary_size=26, vocabulary_size=11, start=2, end=3, tracks=2, thing_size=7, slots=3, acts=2, d_state=4)


def fused(b: int = 2, q: int = 3, t: int = 5, seed: int = 0) -> Fused:
    generator = torch.Generator().manual_seed(seed)
    text, video = torch.randn(b, q, 8, generator=generator), torch.randn(b, t, 8, generator=generator)
    text_mask, video_mask = torch.ones(b, q, dtype=torch.bool), torch.ones(b, t, dtype=torch.bool)
    text_mask[1:, 2], video_mask[1:, 3:] = False, False
    found, tracks = torch.rand(b, t, 3, 2, generator=generator), torch.randn(b, t, 2, 4, generator=generator)
    return Fused(text, text_mask, video, video_mask, video, video, found, tracks)


def evidence(b: int = 2, t: int = 5) -> Evidence:
    """Looks at the first two rows of each item; in the first item something follows, in the last row."""
    shares = torch.zeros(b, LOOKS, t)
    shares[:, 0, :2], shares[:, 1, 1], shares[0, 2, -1] = 0.5, 1.0, 1.0
    things = torch.rand(b, LOOKS, 2, 7, generator=torch.Generator().manual_seed(6))
    return Evidence(torch.zeros(b, 1, 2), torch.ones(b, 1), shares, things)


def summary(b: int = 2) -> Tensor:
    return torch.randn(b, 26, generator=torch.Generator().manual_seed(5))


def decoder(config: DecoderConfig = CONFIG) -> AnswerDecoder:
    torch.manual_seed(1)
    made = AnswerDecoder(config).eval()
    torch.nn.init.normal_(made.embed.weight, std=1.0)  # so that answers differ
    return made


def test_what_is_generated_is_the_likeliest_of_whole_passes() -> None:
    made, given = decoder(), fused()
    found, probability = made.generate(given, evidence(), summary(), most_tokens=6)
    for item in range(2):
        alone, looked = (whole.rows(torch.tensor([item])) for whole in (given, evidence()))
        said: list[int] = []
        chance = 1.0
        while len(said) < found.shape[1] and CONFIG.end not in said:
            tokens = torch.tensor([[*said, 0]])
            with torch.no_grad():
                shares = made(alone, looked, summary()[item : item + 1], tokens, torch.ones_like(tokens, dtype=torch.bool))[0, -1].softmax(
                    dim=-1
                )
            said.append(int(shares.argmax()))
            chance *= float(shares.max())
        assert found[item, : len(said)].tolist() == said
        assert (found[item, len(said) :] == CONFIG.end).all()
        assert float(probability[item]) == pytest.approx(chance, rel=1e-3)


def test_the_probability_of_what_is_generated_is_the_one_that_it_was_generated_with() -> None:
    made, given = decoder(), fused(b=1)
    found, probability = made.generate(given, evidence(1), summary(1), most_tokens=6)
    assert float(made.probability(given, evidence(1), summary(1), found)[0]) == pytest.approx(float(probability[0]), rel=1e-3)
    other = found.clone()
    other[0, 0] = (other[0, 0] + 1) % CONFIG.vocabulary_size
    assert float(made.probability(given, evidence(1), summary(1), other)[0]) < float(probability[0])


def test_pads_of_an_answer_change_nothing() -> None:
    made, given = decoder(), fused()
    tokens, mask = torch.tensor([[4, 5, 3], [6, 3, 0]]), torch.tensor([[True] * 3, [True, True, False]])
    other = torch.tensor([[4, 5, 3], [6, 3, 9]])
    with torch.no_grad():
        torch.testing.assert_close(
            made(given, evidence(), summary(), tokens, mask)[1, :2], made(given, evidence(), summary(), other, mask)[1, :2]
        )


def test_no_token_sees_itself_or_those_after_it() -> None:
    made, given = decoder(), fused()
    mask = torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        one, other = (made(given, evidence(), summary(), torch.tensor([row, row]), mask) for row in ([4, 5, 3], [4, 9, 3]))
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert float((one[:, 2] - other[:, 2]).abs().max()) > 1e-4


def test_an_answer_can_be_learnt_from_what_is_seen() -> None:
    made = decoder().train()
    given = fused()
    tokens, mask = torch.tensor([[4, 5, 3], [6, 3, 3]]), torch.tensor([[True] * 3, [True, True, False]])
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.02)
    for _ in range(60):
        logits = made(given, evidence(), summary(), tokens, mask)
        loss: Tensor = torch.nn.functional.cross_entropy(logits[mask], tokens[mask])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found, probability = made.eval().generate(given, evidence(), summary(), most_tokens=4)
    assert found.tolist() == [[4, 5, 3], [6, 3, 3]]
    assert float(probability.min()) > 0.5


def test_only_what_the_evidence_looks_at_is_read_and_which_track_it_is() -> None:
    made, given, tokens = decoder(), fused(), torch.tensor([[4, 3], [4, 3]])
    mask = torch.ones(2, 2, dtype=torch.bool)

    def said(given: Fused, looked: Evidence) -> Tensor:
        with torch.no_grad():
            return made(given, looked, summary(), tokens, mask)

    plain = said(given, evidence())
    video = given.video.clone()
    video[:, 2:4, 0] += 1  # in no look
    torch.testing.assert_close(said(replace(given, video=video), evidence()), plain)
    video[:, 4, 0] += 1  # in the last look of the first item alone
    changed = (said(replace(given, video=video), evidence()) - plain).abs().amax(dim=(1, 2))
    assert float(changed[0]) > 1e-6
    assert float(changed[1]) == 0
    things = evidence().things
    for other in (things.flip(2), torch.cat([things[:, :, :, :6], things[:, :, :, 6:] + 1], dim=3)):
        assert float((said(given, replace(evidence(), things=other)) - plain).abs().amax(dim=(1, 2)).min()) > 1e-4


def test_a_token_that_is_withheld_is_not_heard_by_those_after_it() -> None:
    made, mask, withheld = decoder(), torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, False, False]] * 2)
    rows = [torch.tensor([row] * 2) for row in ([4, 5, 3], [7, 5, 3], [4, 8, 3])]
    with torch.no_grad():
        one, same, other = (made(fused(), evidence(), summary(), row, mask, withheld) for row in rows)
        heard = made(fused(), evidence(), summary(), rows[0], mask)
    torch.testing.assert_close(one, same)
    assert float((one[:, 2] - other[:, 2]).abs().max()) > 1e-4
    torch.testing.assert_close(one[:, 0], heard[:, 0])
    assert float((one[:, 1] - heard[:, 1]).abs().max()) > 1e-4


def test_a_token_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="end must be a token of the 11 there are, got 11"):
        DecoderConfig(width=8, summary_size=26, vocabulary_size=11, start=2, end=11)


def test_an_answer_of_no_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="got 0"):
        decoder().generate(fused(), evidence(), summary(), most_tokens=0)
