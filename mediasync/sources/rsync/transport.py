"""What rsync runs in place of `ssh`: hands its stdin and stdout to the process that started rsync, and ends with the status it is told.

Called as `transport.py DESCRIPTOR HOST COMMAND…`, where DESCRIPTOR is an open socket to that process. Runs without site-packages, so that
it costs rsync no more than a shell would.
"""

import os
import socket
import sys

LOST = 255


def main() -> int:
    channel = socket.socket(fileno=int(sys.argv[1]))
    socket.send_fds(channel, [b"\0".join(map(os.fsencode, sys.argv[3:]))], [0, 1])
    os.close(0)
    os.close(1)
    status = channel.recv(1)
    return status[0] if status else LOST


if __name__ == "__main__":
    sys.exit(main())
