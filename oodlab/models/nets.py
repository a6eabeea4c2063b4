"""Plain networks: multi-layer perceptrons, without and with residual blocks.

Imports: checks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from oodlab import checks


class MLP(nn.Sequential):
    """A multi-layer perceptron: linear layers with an activation between them, (B, inputs) -> (B, outputs)."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        checks.layers("MLP", {"inputs": inputs, "outputs": outputs}, hidden)
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), activation()]
        super().__init__(*layers, nn.Linear(widths[-1], outputs))


class ResidualBlock(nn.Module):
    """A residual block of two linear layers, x + W2 act(W1 act(x)), width -> hidden -> width."""

    def __init__(self, width: int, hidden: int, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.branch = nn.Sequential(activation(), nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the residual branch, (B, width) -> (B, width)."""
        return x + self.branch(x)


class ResidualMLP(nn.Sequential):
    """A residual perceptron: linear layer, residual blocks, activation, linear layer, (B, inputs) -> (B, outputs).

    width 256, hidden 1024 and 5 blocks are the FCRes2 network of arXiv:2105.05735, Table 10.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        hidden: int,
        blocks: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        sizes = {"inputs": inputs, "outputs": outputs, "width": width, "hidden": hidden}
        checks.layers("ResidualMLP", sizes)
        checks.whole("ResidualMLP", "blocks", blocks, least=0)
        super().__init__(
            nn.Linear(inputs, width),
            *(ResidualBlock(width, hidden, activation) for _ in range(blocks)),
            activation(),
            nn.Linear(width, outputs),
        )
