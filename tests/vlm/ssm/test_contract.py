"""What every backend that can run here promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.vlm.ssm.problems import GRADIENT_TOLERANCE, TOLERANCE, Problem, distance, gradients, problem, repeated_rounding, run
from vlm.ssm.native import library
from vlm.ssm.scan import selective_scan

native = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))
INSTRUCTIONS = [name for name in library.INSTRUCTION_SETS if library.missing() is None and library.load().can_run(name)]
# A backend and the type it is asked in.
BACKENDS = [
    *(pytest.param((f"native {name}", torch.float32), id=f"native-{name}", marks=native) for name in INSTRUCTIONS),
    pytest.param(("torch", torch.float32), id="torch-float32"),
    pytest.param(("torch", torch.float64), id="torch-float64"),
    pytest.param(("reference", torch.float32), id="reference-float32"),
]
Backend = tuple[str, torch.dtype]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Name and type of a backend; of native every instruction set that this processor has."""
    name, dtype = request.param
    if name.startswith("native"):
        monkeypatch.setenv(library.INSTRUCTIONS_VARIABLE, name.split()[1])
    return name.split()[0], dtype


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def assert_true(asked: Problem, backend: Backend, *, more: float = 0) -> None:
    """Output, last state and every gradient equal the reference's in float64; ``more`` is added to what they may differ by."""
    name, dtype = backend
    truth = gradients(asked.to(torch.float64), "reference")
    found = gradients(asked.to(dtype), name)
    assert set(found) == set(truth)
    far = {key: distance(found[key], truth[key]) for key in truth}
    limits = {key: (GRADIENT_TOLERANCE if key.startswith("grad") else TOLERANCE)[dtype] + more for key in truth}
    assert {key: value for key, value in far.items() if not value < limits[key]} == {}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("t", [1, 2, 16, 17, 63, 64, 65, 131])
def test_output_state_and_gradients_are_those_of_the_reference(backend: Backend, t: int, reverse: bool):
    assert_true(problem(2, t, 19, 16, dtype=torch.float32, reverse=reverse), backend)


@pytest.mark.parametrize(("t", "d"), [(1000, 8), (4097, 3)])
def test_long_sequences_are_those_of_the_reference(backend: Backend, t: int, d: int):
    assert_true(problem(1, t, d, 16, dtype=torch.float32), backend)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 13, 16, 21, 32])
def test_any_number_of_states_is_possible(backend: Backend, n: int):
    assert_true(problem(1, 40, 5, n, dtype=torch.float32), backend)


@pytest.mark.parametrize("d", [1, 4, 15, 16, 17, 127, 128, 129, 260])
def test_any_number_of_channels_is_possible(backend: Backend, d: int):
    assert_true(problem(2, 9, d, 4, dtype=torch.float32), backend)


@pytest.mark.parametrize("absent", ["D", "z", "delta_bias", "initial_state", "everything"])
def test_what_is_absent_counts_for_nothing(backend: Backend, absent: str):
    names = ("D", "z", "delta_bias", "initial_state") if absent == "everything" else (absent,)
    assert_true(problem(dtype=torch.float32, **dict.fromkeys(names)), backend)


def test_delta_is_taken_as_it_is_without_softplus(backend: Backend):
    asked = problem(dtype=torch.float32, delta_softplus=False)
    assert_true(replace(asked, delta=asked.delta.abs(), delta_bias=None), backend)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [[70, 0, 33], [0, 0, 0], [1, 16, 64]])
def test_lengths_are_those_of_the_reference(backend: Backend, lengths: list[int], reverse: bool):
    assert_true(problem(3, 70, 5, 4, dtype=torch.float32, lengths=torch.tensor(lengths), reverse=reverse), backend)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bounds", [[0, 70], [0, 0, 1, 66, 66, 70, 70], list(range(71))])
def test_packed_items_are_those_of_the_reference(backend: Backend, bounds: list[int], reverse: bool):
    packed = torch.tensor(bounds, dtype=torch.int32)
    assert_true(problem(1, 70, 5, 4, dtype=torch.float32, cu_seqlens=packed, reverse=reverse), backend)


@pytest.mark.parametrize(("b", "t"), [(0, 5), (2, 0), (0, 0)])
def test_nothing_gives_nothing_and_its_gradient_is_zero(backend: Backend, b: int, t: int):
    found = gradients(problem(b, t, 5, 4, dtype=backend[1]), backend[0])
    assert found["out"].shape == (b, t, 5)
    assert found["last_state"].shape == (b, 5, 4)
    assert not found.get("grad A", torch.zeros(1)).any()


def test_no_channel_gives_no_output(backend: Backend):
    assert gradients(problem(2, 5, 0, 4, dtype=backend[1]), backend[0])["out"].shape == (2, 5, 0)


@pytest.mark.parametrize("step", [1e-6, 1e-3, 50.0])
@pytest.mark.parametrize("rate", [-1e-6, 0.0, -1.0, -1e3])
def test_extreme_steps_and_rates_are_those_of_the_reference(backend: Backend, step: float, rate: float):
    asked = problem(1, 50, 5, 4, dtype=torch.float32, delta_softplus=False, delta_bias=None)
    asked = replace(asked, delta=torch.full_like(asked.delta, step), A=torch.full_like(asked.A, rate))
    assert_true(asked, backend, more=repeated_rounding(backend[1], 50))


@pytest.mark.parametrize("delta", [-100.0, -20.0, 20.0, 100.0])
def test_softplus_holds_far_from_zero(backend: Backend, delta: float):
    asked = problem(1, 20, 5, 4, dtype=torch.float32)
    assert_true(replace(asked, delta=asked.delta + delta, z=asked.z * abs(delta)), backend)


def test_inputs_may_lie_anywhere_in_memory(backend: Backend):
    asked = problem(2, 40, 6, 4, dtype=torch.float32)

    def scattered(tensor: Tensor) -> Tensor:
        """The same values with the first two axes swapped in memory, and every third number of a wider row."""
        wide = tensor.transpose(0, -1).repeat_interleave(3, dim=0).contiguous()
        return wide[::3].transpose(0, -1)

    changed = {name: scattered(value) for name, value in asked.floats().items() if value.ndim > 1}
    assert not any(value.is_contiguous() for value in changed.values())
    output, state = run(replace(asked, **changed).to(backend[1]), backend[0])
    leaves = replace(asked, **{name: value.to(backend[1]) for name, value in changed.items()}).arguments()
    leaves |= {"D": asked.D.to(backend[1]), "delta_bias": asked.delta_bias.to(backend[1])}
    same, same_state = selective_scan(**leaves, return_last_state=True, backend=backend[0])
    assert torch.equal(output, same)
    assert torch.equal(state, same_state)


def test_halves_of_one_projection_need_no_copy(backend: Backend):
    asked = problem(2, 40, 6, 4, dtype=backend[1])
    joined = torch.cat([asked.u, asked.z], dim=-1)
    u, z = joined.chunk(2, dim=-1)
    assert torch.equal(run(replace(asked, u=u, z=z), backend[0])[0], run(asked, backend[0])[0])


def test_an_expanded_gradient_is_taken(backend: Backend):
    asked = problem(2, 40, 6, 4, dtype=backend[1])
    u = asked.u.requires_grad_()
    selective_scan(**(asked.arguments() | {"u": u}), backend=backend[0]).sum().backward()
    truth = problem(2, 40, 6, 4)
    true_u = truth.u.requires_grad_()
    selective_scan(**(truth.arguments() | {"u": true_u}), backend="reference").sum().backward()
    assert distance(u.grad, true_u.grad) < GRADIENT_TOLERANCE[backend[1]]


def test_bfloat16_inputs_give_bfloat16_outputs_of_the_float32_result(backend: Backend):
    half = problem(2, 40, 20, 16, dtype=torch.bfloat16)
    half = replace(half, A=half.A.float(), D=half.D.float(), delta_bias=half.delta_bias.float(), initial_state=half.initial_state.float())
    found, truth = gradients(half, backend[0]), gradients(half.to(torch.float64), "reference")
    assert found["out"].dtype == found["grad u"].dtype == found["grad B"].dtype == torch.bfloat16
    assert found["last_state"].dtype == found["grad A"].dtype == torch.float32
    assert {key: far for key in truth if not (far := distance(found[key], truth[key])) < GRADIENT_TOLERANCE[torch.bfloat16]} == {}
    assert distance(found["last_state"], truth["last_state"]) < TOLERANCE[torch.float32]


def test_what_lies_beyond_an_item_is_never_read(backend: Backend):
    asked = problem(2, 40, 6, 4, dtype=backend[1], lengths=torch.tensor([40, 11]))
    poisoned = {}
    for name in ("u", "delta", "B", "C", "z"):
        poisoned[name] = getattr(asked, name).clone()
        poisoned[name][1, 11:] = float("nan")
    clean, dirty = gradients(asked, backend[0]), gradients(replace(asked, **poisoned), backend[0])
    assert {key for key in clean if not torch.equal(clean[key], dirty[key])} == set()


@pytest.mark.parametrize("layout", ["lengths", "cu_seqlens"])
def test_fresh_memory_is_never_read(backend: Backend, layout: str):
    items = {"lengths": torch.tensor([7, 33])} if layout == "lengths" else {"cu_seqlens": torch.tensor([0, 0, 7, 40])}
    asked = problem(2 if layout == "lengths" else 1, 40, 6, 4, dtype=backend[1], **items)
    clean = gradients(asked, backend[0])
    for size in (50, 100, 300, 1000, 3000, 10_000, 50_000):  # what the allocator hands out next is full of NaN
        held = [torch.full((size,), float("nan")) for _ in range(20)]
        del held
    dirty = gradients(asked, backend[0])
    assert {key for key in clean if not torch.equal(clean[key], dirty[key])} == set()


def test_the_same_call_gives_the_same_bits_whatever_the_threads(backend: Backend, threads: int):
    asked = problem(3, 300, 300, 16, dtype=backend[1]) if backend[0] == "native" else problem(2, 20, 30, 16, dtype=backend[1])
    found = gradients(asked, backend[0])
    again = gradients(asked, backend[0])
    torch.set_num_threads(3 - threads)
    other = gradients(asked, backend[0])
    assert {key for key in found if not torch.equal(found[key], again[key])} == set()
    if backend[0] == "native":  # torch's own sums are split by its threads
        assert {key for key in found if not torch.equal(found[key], other[key])} == set()


@given(st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_the_future_does_not_change_the_past(t: int, seed: int):
    asked = problem(1, 41, 5, 4, dtype=torch.float32, seed=seed)
    changed = {name: getattr(asked, name).clone() for name in ("u", "delta", "B", "C", "z")}
    for value in changed.values():
        value[:, t:] += 1
    for name in runnable():
        assert torch.equal(run(asked, name)[0][:, :t], run(replace(asked, **changed), name)[0][:, :t])


@given(st.integers(0, 70), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_a_sequence_may_be_cut_anywhere_when_the_state_is_carried(cut: int, reverse: bool, seed: int):
    asked = problem(2, 70, 5, 4, dtype=torch.float32, seed=seed, reverse=reverse)
    parts = [
        replace(asked, **{name: getattr(asked, name)[:, at] for name in ("u", "delta", "B", "C", "z")})
        for at in (slice(0, cut), slice(cut, None))
    ]
    for name in runnable():
        whole, last = run(asked, name)
        outputs: list[Tensor] = []
        state = asked.initial_state
        for part in reversed(parts) if reverse else parts:
            output, state = run(replace(part, initial_state=state), name)
            outputs.insert(0 if reverse else len(outputs), output)
        assert distance(torch.cat(outputs, dim=1), whole) < TOLERANCE[torch.float32]
        assert distance(state, last) < TOLERANCE[torch.float32]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_padded_batch_a_packed_row_and_items_alone_are_the_same(lengths: list[int], reverse: bool):
    asked = problem(len(lengths), 40, 5, 4, dtype=torch.float32, lengths=torch.tensor(lengths), reverse=reverse)
    time = ("u", "delta", "B", "C", "z")
    alone = [
        replace(
            asked,
            lengths=None,
            initial_state=asked.initial_state[i, None],
            **{name: getattr(asked, name)[i, None, :length] for name in time},
        )
        for i, length in enumerate(lengths)
    ]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    packed = replace(asked, lengths=None, cu_seqlens=bounds, **{name: torch.cat([getattr(x, name) for x in alone], 1) for name in time})
    for name in runnable():
        output, state = run(asked, name)
        packed_output, packed_state = run(packed, name)
        assert distance(packed_state, state) < TOLERANCE[torch.float32]
        for i, length in enumerate(lengths):
            own, own_state = run(alone[i], name)
            assert distance(output[i, None, :length], own) < TOLERANCE[torch.float32]
            assert distance(packed_output[:, bounds[i] : bounds[i + 1]], own) < TOLERANCE[torch.float32]
            assert distance(state[i, None], own_state) < TOLERANCE[torch.float32]
            assert not output[i, length:].any()


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=10, deadline=None)
def test_the_output_is_linear_in_u_and_state(first: float, second: float):
    one, two = problem(t=40, dtype=torch.float32), problem(t=40, dtype=torch.float32, seed=1)
    two = replace(one, u=two.u, initial_state=two.initial_state)
    mixed = replace(one, u=first * one.u + second * two.u, initial_state=first * one.initial_state + second * two.initial_state)
    for name in runnable():
        expected = first * run(one, name)[0] + second * run(two, name)[0]
        assert (run(mixed, name)[0] - expected).abs().max() < 1e-4


def runnable() -> list[str]:
    """Backends on this machine that are no test of patience."""
    return ["reference", "torch", *(["native"] if INSTRUCTIONS else [])]


def test_gradients_are_those_of_differences_in_float64():
    asked = problem(2, 18, 2, 2, lengths=torch.tensor([18, 2]), reverse=True)
    floats = asked.floats()

    def scan(*values: Tensor) -> Any:
        return selective_scan(**(asked.arguments() | dict(zip(floats, values, strict=True))), return_last_state=True, backend="torch")

    assert torch.autograd.gradcheck(scan, [value.requires_grad_() for value in floats.values()], fast_mode=True)


# Each with what it takes after the arguments of all.
OPERATORS = [
    ("reference_scan", "euler"),
    ("torch_scan", True),
    pytest.param(("native_scan", True), marks=native),
]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own check looks at one
@pytest.mark.parametrize("layout", ["plain", "lengths", "cu_seqlens"])
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_operators_pass_the_checks_of_torch(operator: tuple[str, object], layout: str):
    changes = {"lengths": {"lengths": torch.tensor([4, 3])}, "cu_seqlens": {"cu_seqlens": torch.tensor([0, 3, 4])}}.get(layout, {})
    asked = problem(1 if layout == "cu_seqlens" else 2, 4, 5, 4, dtype=torch.float32, **changes)
    arguments = [
        value.requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value for value in asked.arguments().values()
    ]
    name, option = operator
    selective_scan(**asked.arguments(), backend=name.removesuffix("_scan"))  # defines the operator
    torch.library.opcheck(getattr(torch.ops.vlm, name), (*arguments, option))


@pytest.mark.parametrize("name", ["reference", "torch", pytest.param("native", marks=native)])
def test_fake_tensors_go_through_without_values(name: str):
    with FakeTensorMode():
        asked = problem(3, 9, 5, 4, dtype=torch.float32, lengths=torch.tensor([9, 3, 0]))
        output, state = run(asked, name)
    assert (output.shape, state.shape) == ((3, 9, 5), (3, 5, 4))


@pytest.mark.parametrize("name", ["torch", pytest.param("native", marks=native)])
def test_results_survive_a_change_of_the_ambient_precision(name: str):
    asked = problem(dtype=torch.float32)
    plain = gradients(asked, name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradients(asked, name)
    assert {key for key in plain if not torch.equal(plain[key], inside[key])} == set()
