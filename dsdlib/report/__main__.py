"""``python -m dsdlib.report PROFILE``."""

import sys

from dsdlib.report.command import main

try:
    sys.exit(main())
except KeyboardInterrupt:
    sys.exit("\nreport: interrupted; the pages made before are as they were")
