"""What every process stands on: bootstrap, interceptors, channels, telemetry, the data folder and named crash points.

It never holds business rules, and never imports `services`.
"""

from __future__ import annotations

import os

# gRPC's C core reads this when it is first imported and otherwise writes to stderr by itself, in a format of its own, about things
# that are reported properly by us (an address in use) or are no news (a peer that went away).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
