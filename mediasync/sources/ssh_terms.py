"""How long an SSH connection is waited for, and with which ciphers it is made, whoever makes it."""

from __future__ import annotations

CONNECT_SECONDS = 15.0
# A host is asked after so many seconds of silence, `KEEPALIVE_TRIES` times, and given up one interval after the last: a black hole is
# noticed after (tries + 1) intervals, 27 s.
KEEPALIVE_SECONDS = 9.0
KEEPALIVE_TRIES = 2
# The cheapest cipher on both sides first; chacha20 costs about twice as much.
CIPHERS = "^aes128-gcm@openssh.com"
