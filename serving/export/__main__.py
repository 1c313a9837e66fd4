"""`python -m serving.export`."""

import sys

from serving.export.run import main

sys.exit(main())
