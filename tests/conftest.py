"""For all tests: what the large libraries left on the heap is not looked through again at every collection."""

import gc

import statsmodels.stats.multitest  # noqa: F401  # its `multipletests` collects on every call: .45 s each beside torch's objects
import torch  # noqa: F401
import torchvision  # noqa: F401

gc.freeze()
