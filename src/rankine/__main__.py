"""``python -m rankine``: the same as the ``rankine`` command."""

from rankine.cli import main

main()
