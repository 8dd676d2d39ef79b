"""The three state-space mixers: Mamba (causal), ViM and DBM (bidirectional). Each takes and gives tokens (b, t, d_model).

Sources: Mamba (arXiv 2312.00752), Vision Mamba (arXiv 2401.09417), Video Mamba Suite (arXiv 2403.09626) and its released code, whose names
the parameters keep, so that published weights load. Each part of the rows of ``in_proj`` is a product of its own, whose result is then one
contiguous tensor that no later step has to copy.
"""

from __future__ import annotations

from typing import Literal, get_args, overload

from torch import Tensor, nn

from vlm.errors import InputError
from vlm.ssm.backends import get_backend
from vlm.ssm.branch import Sizes, add_theta, branch, rates, theta_of, undecayed
from vlm.ssm.packed import without_pads
from vlm.ssm.products import add_linear, linear
from vlm.ssm.state import MambaState, branch_on, branch_step, check_state

Combine = Literal["sum", "mean"]


class Mamba(nn.Module):
    """The causal mixer: about ``3 expand d_model^2`` weights.

    Args:
        d_model: width of the tokens. d_state: n, the states of each channel. d_conv: K, the window of the convolution.
        expand: channels of the scan as a multiple of ``d_model``.
        dt_rank: width of what the step sizes are computed from; None takes d_model / 16, rounded up.
        backend: of ``selective_scan``; one that is named is refused here where this machine does not have it.

    Raises:
        InputError: a size breaks its rule, or the backend is unknown. BackendUnavailable: the backend is missing.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: float = 2, *, dt_rank: int | None = None, backend: str = "auto"
    ) -> None:
        super().__init__()
        self.sizes = Sizes(d_model, d_state, d_conv, expand, dt_rank)
        self.backend = checked_backend(backend)
        self.in_proj = nn.Linear(d_model, 2 * self.sizes.d_inner, bias=False)
        add_theta(self, self.sizes)
        self.out_proj = nn.Linear(self.sizes.d_inner, d_model, bias=False)

    @overload
    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        state: MambaState | None = None,
        return_state: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        state: MambaState | None = None,
        return_state: Literal[True],
    ) -> tuple[Tensor, MambaState]: ...

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        state: MambaState | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, MambaState]:
        """Mixed tokens, as ``without_pads`` says; a token sees itself and those before it. With ``return_state`` also where that leads.

        The whole equals any split into chunks, each given the state after the one before, and equals one ``step`` after the other. An item
        without a real token keeps its state.
        """
        if state is None and not return_state:
            return without_pads(self._mix, x, mask, cu_seqlens, self.sizes.d_model)
        num_items = x.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
        states = [self.init_state(num_items) if state is None else state]
        check_state(states[0], num_items, theta_of(self))

        def mix(tokens: Tensor, bounds: Tensor | None) -> Tensor:
            mixed, after = self._mix_on(tokens, bounds, states[-1])
            states.append(after)
            return mixed

        mixed = without_pads(mix, x, mask, cu_seqlens, self.sizes.d_model)
        return (mixed, states[-1]) if return_state else mixed

    def _mix(self, x: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        y = branch(*self._project(x), theta_of(self), cu_seqlens=cu_seqlens, backend=self.backend)
        return linear(y, self.out_proj.weight)

    def _mix_on(self, x: Tensor, cu_seqlens: Tensor | None, state: MambaState) -> tuple[Tensor, MambaState]:
        y, state = branch_on(*self._project(x), theta_of(self), state, cu_seqlens=cu_seqlens, backend=self.backend)
        return self.out_proj(y), state

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for_inputs, for_gates = self.in_proj.weight.chunk(2)
        return linear(x, for_inputs), linear(x, for_gates)

    def init_state(self, batch: int) -> MambaState:
        """The state before the first token of ``batch`` items: zeros, at least in float32."""
        sizes, like = self.sizes, rates(theta_of(self))
        return MambaState(like.new_zeros(batch, sizes.d_conv - 1, sizes.d_inner), like.new_zeros(batch, sizes.d_inner, sizes.d_state))

    def step(self, x_t: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """The mixed token (b, d_model) for the next one of each item, and the state after it; ``state`` itself is not changed."""
        theta = theta_of(self)
        check_state(state, x_t.shape[0], theta)
        y, state = branch_step(*self._project(x_t), theta, state)
        return self.out_proj(y), state

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that an optimiser must not decay."""
        return undecayed(self)


class ViM(nn.Module):
    """The bidirectional mixer with one input, one gate, and a complete set of parameters for each direction ("v2" of the released code).

    About ``3 expand d_model^2`` weights. The arguments are those of ``Mamba``, and

    Args:
        combine: ``sum`` of both directions, as in every model of the suite but ViViM, which takes the ``mean``.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        *,
        combine: Combine = "sum",
        dt_rank: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if combine not in get_args(Combine):
            raise InputError(f"combine must be 'sum' or 'mean', got {combine!r}")
        self.sizes = Sizes(d_model, d_state, d_conv, expand, dt_rank)
        self.backend, self.combine = checked_backend(backend), combine
        self.in_proj = nn.Linear(d_model, 2 * self.sizes.d_inner, bias=False)
        add_theta(self, self.sizes)
        add_theta(self, self.sizes, "_b")
        self.out_proj = nn.Linear(self.sizes.d_inner, d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """Mixed tokens, as ``without_pads`` says; a token sees the whole item."""
        return without_pads(self._mix, x, mask, cu_seqlens, self.sizes.d_model)

    def _mix(self, x: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        for_inputs, for_gates = self.in_proj.weight.chunk(2)
        inputs, gates = linear(x, for_inputs), linear(x, for_gates)
        y = branch(inputs, gates, theta_of(self), cu_seqlens=cu_seqlens, backend=self.backend)
        y = y + branch(inputs, gates, theta_of(self, "_b"), cu_seqlens=cu_seqlens, reverse=True, backend=self.backend)
        mixed = linear(y, self.out_proj.weight)
        return mixed / 2 if self.combine == "mean" else mixed

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that an optimiser must not decay."""
        return undecayed(self)


class DBM(nn.Module):
    """The decomposed bidirectional mixer: each direction has inputs and gates of its own, and both share one set of parameters.

    About ``6 expand d_model^2`` weights: at ``expand`` 1, the default here, as many as ``Mamba`` and ``ViM`` at 2, and as wide in total.
    Compare it with those at equal counts. The arguments are those of ``Mamba``.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: float = 1, *, dt_rank: int | None = None, backend: str = "auto"
    ) -> None:
        super().__init__()
        self.sizes = Sizes(d_model, d_state, d_conv, expand, dt_rank)
        self.backend = checked_backend(backend)
        self.in_proj = nn.Linear(d_model, 4 * self.sizes.d_inner, bias=False)
        add_theta(self, self.sizes)
        self.out_proj = nn.Linear(2 * self.sizes.d_inner, d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """Mixed tokens, as ``without_pads`` says; a token sees the whole item."""
        return without_pads(self._mix, x, mask, cu_seqlens, self.sizes.d_model)

    def _mix(self, x: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        theta = theta_of(self)
        # The rows of in_proj: inputs and gates forward, inputs and gates backward.
        inputs, gates, inputs_b, gates_b = (linear(x, part) for part in self.in_proj.weight.chunk(4))
        y = branch(inputs, gates, theta, cu_seqlens=cu_seqlens, backend=self.backend)
        y_b = branch(inputs_b, gates_b, theta, cu_seqlens=cu_seqlens, reverse=True, backend=self.backend)
        # out_proj of [y ; y_b], without the copy that joins them.
        out, out_b = self.out_proj.weight.chunk(2, dim=1)
        return add_linear(linear(y, out), y_b, out_b)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that an optimiser must not decay."""
        return undecayed(self)


def checked_backend(name: str) -> str:
    """``name``, when it is ``auto`` or a backend that this machine has: refused when a block is built, not at its first batch."""
    if name != "auto":
        get_backend(name)
    return name
