"""`python -m repair_engine`: the same as the command `neuron-repair`."""

from repair_engine.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
