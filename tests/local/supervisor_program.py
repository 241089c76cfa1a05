"""A real supervisor over stand-in children, quick to lose patience: `supervisor_program.py [--ephemeral] [--listen HOST:PORT] [--json]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mediasync.local.children import ON_DEMAND, SERVICES, ChildCommand, Policy
from mediasync.local.supervisor import EphemeralPolicy, Settings, main
from mediasync.runtime.home import Home

CHILD = str(Path(__file__).with_name("child_program.py"))

if __name__ == "__main__":
    arguments = sys.argv[1:]
    listen = arguments[arguments.index("--listen") + 1] if "--listen" in arguments else ""
    commands = tuple(
        ChildCommand(
            name,
            (sys.executable, "-S", "-P", CHILD, name),
            {"MEDIASYNC_LISTEN": listen} if listen and name == "coordinator" else {},
            on_demand="--ephemeral" in arguments and name in ON_DEMAND,
        )
        for name in SERVICES
    )
    patience = float(os.environ.get("TEST_UNATTACHED_SECONDS", "10"))
    sys.exit(
        main(
            arguments,
            Settings(
                Home.from_environment(os.environ),
                commands,
                "--ephemeral" in arguments,
                listen,
                Policy(0.05, 0.2, 30, float(os.environ.get("TEST_READY_SECONDS", "30")), 1.0, 3),
                EphemeralPolicy(unattached_seconds=patience, linger_seconds=0.1, recovery_seconds=2),
            ),
        )
    )
