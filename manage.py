#!/usr/bin/env python
"""Django's command line: `manage.py dev` starts everything; `manage.py demo` shows a repair."""

from webapp.__main__ import main

if __name__ == "__main__":
    main()
