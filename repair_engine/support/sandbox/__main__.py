"""python -P -m repair_engine.support.sandbox SOCKET   # see `starting`"""

from repair_engine.support.sandbox.forkserver import main

main()
