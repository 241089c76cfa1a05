"""A far side where only the rsync program may run, or where the user wants it: the real rsync on this side lists and transfers.

rsync logs in nowhere: it is given `transport.py` for a remote shell, which hands its two pipes to this process, where `tunnel.py` joins
them to a session of the connection that `mediasync.sources.ssh_login` made. So host keys, keys, passwords and jump hosts follow the
same rules for every engine.

What rsync does not tell is done without: it knows no ctimes and no inodes (every scan reports every directory in full, and a file that
was rewritten within the same second at the same size passes for the one before), no clock (ages count by ours), and cannot hash, delete
or watch. A file is listed before and after it is transferred; a folder on the way to it that turned into a link in between is noticed, one
that was a link only while rsync opened the file is not.
"""
