"""The processes, one sub-package each. They never import one another."""

import gc
import sys

if sys.argv[:1] == ["-m"]:
    # Python is about to run one of them (`python -m services.NAME`). Nothing of what is imported is garbage, and looking for some takes
    # a tenth of the start; `mediasync.runtime.process` turns it on again.
    gc.disable()
