"""Cases that run inside Ray are collected by the pytest that `test_on_ray` starts alone."""

import os

collect_ignore = [] if "DEEPQ_ON_RAY" in os.environ else ["on_ray"]
