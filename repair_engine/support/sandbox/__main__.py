"""python -P -m repair_engine.support.sandbox ASKED   # see `parent.call`"""

from repair_engine.support.sandbox.child import main

main()
