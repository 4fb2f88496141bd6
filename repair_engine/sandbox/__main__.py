"""python -P -m repair_engine.sandbox ASKED   # see `parent.call`"""

from repair_engine.sandbox.child import main

main()
