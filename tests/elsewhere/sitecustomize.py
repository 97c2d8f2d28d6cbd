"""On PYTHONPATH it takes from every process what Windows lacks: fork and the module resource.

Processes are spawned then, as they are under Windows and macOS.
"""

import multiprocessing
import os
import sys

del os.fork, os.forkpty
sys.modules["resource"] = None  # type: ignore[assignment]
multiprocessing.set_start_method("spawn")
