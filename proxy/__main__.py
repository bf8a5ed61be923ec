"""`python -m proxy`: see `proxy/cli.py`."""

import sys

from proxy.cli import main

sys.exit(main(sys.argv[1:]))
