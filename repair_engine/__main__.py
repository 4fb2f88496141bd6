"""`python -m repair_engine inspect|score|repair|evaluate`: the product without a server."""

from repair_engine.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
