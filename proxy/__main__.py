"""`python -m proxy`: see `proxy/cli.py`."""

import sys

from proxy import native

native.use()  # before the modules are imported that it has

from proxy.cli import main  # noqa: E402  see above

sys.exit(main(sys.argv[1:]))
