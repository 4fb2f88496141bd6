"""Mean constants: what an ablated filter's output is replaced by, and the bias that writes it.

The mean m of a filter's output at its site (§2 of the paper: over a set of validation images) is turned into the
bias b with act(b) = m, b is rounded to the dtype in which the checkpoint stores it, and the constant is then
*defined* as act(b): what is valued is what is written.

"bn_beta" is what the authors' code does instead: batch norm's β stays, before the activation, so the constant is act(β)
and comes from training. Sites without a batch norm have no β of that sort; they keep their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from repair_engine.network.activations import Activation
from repair_engine.network.network import Network
from repair_engine.network.sites import Site

CONSTANTS = ("mean", "bn_beta")


def constant_of(site: Site, constant: str) -> str:
    """Where the constants of a site's filters come from when `constant` is asked for: "mean" or "bn_beta"."""
    return "bn_beta" if constant == "bn_beta" and site.norm == "batch" else "mean"


def stored_constants(
    network: Network,
    means: torch.Tensor,
    dtypes: Mapping[str, torch.dtype],
    betas: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The constants, float32 [outputs], and the biases that write them, float64 [outputs], on the CPU.

    Args:
        means: mean outputs [outputs], float64 (`Network.mean_outputs`).
        dtypes: key of the state dict -> dtype in the file.
        betas: the checkpoint's tensors, for "bn_beta"; None = "mean".
    """
    constants = torch.empty(network.n_outputs, dtype=torch.float32)
    biases = torch.empty(network.n_outputs, dtype=torch.float64)
    firsts = network.numbering.outputs
    for site, first, end in zip(network.sites, firsts[:-1].tolist(), firsts[1:].tolist()):
        here = slice(first, end)
        factor = None if site.gate is None else gate_factor(site, dtypes[site.bias_key])[1]
        # What a reader's bias takes up is the mean itself, whatever the activation.
        activation = Activation() if factor is not None or site.norm == "absorbed" else site.activation
        if betas is not None and constant_of(site, "bn_beta") == "bn_beta":
            rounded = betas[site.bias_key]
        elif factor is None or site.norm == "absorbed":
            rounded = activation.solve(means[here]).to(dtypes[site.bias_key])
        else:
            rounded = (means[here] / factor).to(dtypes[site.bias_key])
        biases[here] = rounded.double()
        # On the network's device: the same operator that runs in the network gives the same bits.
        put_out = activation(rounded.float().to(network.device)).float().cpu()
        constants[here] = put_out if factor is None or site.norm == "absorbed" else put_out * factor
    return constants, biases


def gate_factor(site: Site, dtype: torch.dtype) -> tuple[float, float]:
    """Of a gated unit: the bias of the activated half, as stored, that lets all of the other half pass, and how much
    it lets pass (1 to rounding)."""
    bias = site.activation.solve(torch.ones(1, dtype=torch.float64)).to(dtype)
    return float(bias), float(site.activation(bias.float()))
