"""``python -m dsdlib.report PROFILE``."""

import sys

# The schema of notebooks holds no IRIs. Without this line, importing nbformat compiles 38 grammars of IRIs for 1.5 s.
sys.modules.setdefault("rfc3987_syntax", None)

from dsdlib.report.command import main  # noqa: E402

try:
    sys.exit(main())
except KeyboardInterrupt:
    sys.exit("\nreport: interrupted; the pages made before are as they were")
