"""`python -m webapp COMMAND`: Django's command line, wherever this is installed; manage.py in a checkout."""

from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(["python -m webapp", *sys.argv[1:]])


if __name__ == "__main__":
    main()
