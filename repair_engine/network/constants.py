"""Mean constants: what an ablated filter's output is replaced by, and the bias that writes it.

The mean m of a filter's output at its site (§2 of the paper: over a set of validation images) is turned into the
bias b with act(b) = m, b is rounded to the dtype in which the checkpoint stores it, and the constant is then
*defined* as act(b): what is valued is what is written.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from repair_engine.network.network import Network


def stored_constants(
    network: Network, means: torch.Tensor, dtypes: Mapping[str, torch.dtype]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The constants, float32 [n], and the biases that write them, float64 [n], on the CPU.

    Args:
        means: mean outputs [n], float64 (`Network.mean_outputs`).
        dtypes: key of the state dict -> dtype in the file.
    """
    constants = torch.empty(network.n_filters, dtype=torch.float32)
    biases = torch.empty(network.n_filters, dtype=torch.float64)
    for i, site in enumerate(network.sites):
        here = slice(int(network.offsets[i]), int(network.offsets[i + 1]))
        rounded = site.activation.solve(means[here]).to(dtypes[site.bias_key])
        biases[here] = rounded.double()
        # On the network's device: the same operator that runs in the network gives the same bits.
        constants[here] = site.activation(rounded.float().to(network.device)).float().cpu()
    return constants, biases
