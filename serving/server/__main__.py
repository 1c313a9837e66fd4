"""`python -m serving.server`."""

import sys

from serving.server.run import main

sys.exit(main())
