"""Explain and repair trained image classifiers: checkpoint in, repaired checkpoint and report out."""

import os

__version__ = "0.1.0"  # the only place: the package, reports, the API's document and `--version` take it from here

# OpenMP's threads wait for each other by spinning unless told otherwise; where anything else runs on the same cores
# that made two threads up to ten times slower than one. It is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
