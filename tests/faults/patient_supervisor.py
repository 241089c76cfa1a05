"""`mediasync up` for tests that kill children again and again: each comes back as fast as if it were the first time.

patient_supervisor.py --listen HOST:PORT --json
"""

from __future__ import annotations

import os
import sys

from mediasync.local.children import Policy, service_commands
from mediasync.local.supervisor import Settings, main
from mediasync.runtime.home import Home

if __name__ == "__main__":
    listen = sys.argv[sys.argv.index("--listen") + 1]
    settings = Settings(Home.from_environment(os.environ), service_commands(listen), False, listen, Policy(healthy_after_seconds=0))
    sys.exit(main(sys.argv[1:], settings))
