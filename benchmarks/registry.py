"""All methods of `quality`, one row each. A new one is a row here."""

from __future__ import annotations

from functools import partial

from benchmarks import own
from benchmarks.methods import Method
from benchmarks.peers import authors, captum_peer, shapiq_peer

METHODS: tuple[Method, ...] = (
    Method("fast", partial(own.fast, "float32"), "own", "one run per budget"),
    Method("fast, bfloat16", partial(own.fast, "bfloat16"), "own", "one run per budget; --precision bfloat16"),
    Method("tmab", partial(own.sampler, "tmab"), "own"),
    Method("cmcs", partial(own.sampler, "cmcs"), "own"),
    Method("authors' loop", authors.run, "authors", "aims at the top end only"),
    Method("captum ShapleyValueSampling", captum_peer.run, "captum"),
    Method("shapiq PermutationSamplingSV", shapiq_peer.permutation, "shapiq"),
    Method("shapiq SVARM", shapiq_peer.svarm, "shapiq", "one run per budget"),
    Method("shapiq KernelSHAP", shapiq_peer.kernel_shap, "shapiq", "one run per budget"),
    Method("shapiq ProxySPEX", shapiq_peer.proxy, "shapiq", "one run per budget"),
    Method("shapiq LeverageSHAP", shapiq_peer.leverage, "shapiq", "one run per budget"),
    Method("shapiq RegressionMSR", shapiq_peer.regression_msr, "shapiq", "one run per budget"),
    Method("shapiq ProxySHAP", shapiq_peer.proxy_shap, "shapiq", "one run per budget"),
    Method("shapiq OddSHAP", shapiq_peer.odd_shap, "shapiq", "one run per budget"),
)
PEERS = ("captum", "shapiq")


def find(names: list[str] | None) -> tuple[Method, ...]:
    """The methods of these names (all for None). Raises KeyError naming what there is."""
    if not names:
        return METHODS
    known = {method.name: method for method in METHODS}
    for name in names:
        if name not in known:
            raise KeyError(f"no method {name!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in names)
