"""System calls that Python does not offer: when a file was born, and renaming without replacing. They are looked for in the C library, and
by their number where that is older; where they cannot be had, births are not known, and a second name in place of a renaming does.
"""

import errno
import os
import struct

NUMBERS = {"x86_64": (332, 316), "aarch64": (291, 276)}  # of statx and renameat2
WORKING_DIRECTORY = -100
NO_FOLLOW = 0x100
INODE_AND_BIRTH = 0x900
WITH_BIRTH = 0x800
NO_REPLACE = 1
# Of what statx tells: what is known, the inode, and the moment of birth.
LOOK_OF_STATX = struct.Struct("=I28xQ40xqI")
NOT_POSSIBLE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def system_call(name, which, *kinds):
    """A function of the C library, or the call by its number; None where there is neither. -1 is a failure, and ctypes has the errno."""
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        kinds = [getattr(ctypes, kind) for kind in kinds]
        try:
            call = library[name]
            call.argtypes = kinds
            return call
        except AttributeError:
            pass
        machine = os.uname().machine
        if not os.uname().sysname == "Linux" or machine not in NUMBERS or struct.calcsize("P") != 8:
            return None
        call = library["syscall"]
        call.restype = ctypes.c_long
        call.argtypes = [ctypes.c_long] + [ctypes.c_long if kind is ctypes.c_int else kind for kind in kinds]
        number = NUMBERS[machine][which]
        return lambda *args: call(number, *args)
    except (ImportError, OSError, AttributeError):
        return None


class Births:
    """When files of the working directory were born."""

    def __init__(self):
        self.call = system_call("statx", 0, "c_int", "c_char_p", "c_int", "c_uint", "c_void_p")
        self.space = bytearray(256)
        if self.call is not None:
            import ctypes

            self.held = (ctypes.c_char * 256).from_buffer(self.space)
            self.address = ctypes.addressof(self.held)

    def of(self, name, status):
        """The moment in nanoseconds, None where it is not known."""
        if self.call is None:
            told = getattr(status, "st_birthtime", None)
            return int(told * 1e9) if told else None
        if self.call(WORKING_DIRECTORY, name, NO_FOLLOW, INODE_AND_BIRTH, self.address) != 0:
            return None
        known, inode, seconds, fraction = LOOK_OF_STATX.unpack_from(self.space)
        if not known & WITH_BIRTH or inode != status.st_ino or seconds <= 0:
            return None
        return seconds * 1000000000 + fraction


class Renaming:
    """Renames files without replacing anything."""

    def __init__(self):
        self.call = system_call("renameat2", 1, "c_int", "c_char_p", "c_int", "c_char_p", "c_uint")

    def move(self, there, name, here, status):
        """The name `name` goes from one open directory to another one, where there must be none. It has to be the file that `status` is of:
        one that took its place in the last moment goes back. Returns whether it was. Raises OSError."""
        if self.call is not None:
            import ctypes

            if self.call(there, name, here, name, NO_REPLACE) == 0:
                moved = os.stat(name, dir_fd=here, follow_symlinks=False)
                if (moved.st_dev, moved.st_ino) == (status.st_dev, status.st_ino):
                    return True
                self.call(here, name, there, name, NO_REPLACE)
                return False
            error = ctypes.get_errno()
            if error not in NOT_POSSIBLE:
                raise OSError(error, os.strerror(error))
        os.link(name, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        named = os.stat(name, dir_fd=here, follow_symlinks=False)
        if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
            os.unlink(name, dir_fd=here)
            return False
        os.unlink(name, dir_fd=there)
        return True
