"""The agent: the program that is sent to a source and runs there for the length of a connection.

Python 3.6 and later, standard library only. The modules of this folder are its parts: `PARTS` is the order in which
`mediasync.sources.agent.assembly` joins them into the one text that is sent, without their imports of each other; top-level names are
therefore unique across them. It speaks binary frames on stdin and stdout (`frames`), answers one request after the other, never writes to a
file, deletes or moves only what `deleting` and `aside` are told to, and ends when stdin ends or nobody reads its stdout any more. The next
requests may be sent while it is still busy: they wait in the pipe. `mediasync.sources.agent.wire` holds the other end's view of the same
frames.

How the races are closed at the file:

- Every part of a path below the root is opened relative to its parent without following a link, so that swapping a folder for a
  link leads nowhere. Only the folders that the user named may be links, and those that the selection lets be followed: `tree` says how.
- A file is opened only if it is a regular one, and only sent if size, mtime and inode are what the scan saw.
- They are looked at again after the last byte was read. `sendfile` puts references to the file's pages into a pipe, not copies, so
  that a write after that look could still change what the reader gets: the last part of a file, as much as the pipe can hold, is
  therefore copied, and by the time it is in the pipe every referenced page has been read out of it.
- Kernels stamp files with a clock of some milliseconds' grain: a file written in this instant could be written again without a
  new mtime, so it is looked at again a moment later.
- Once a length was announced, so many bytes follow, whatever happens to the file: the rest is zeros and the verdict says so.

Which file counts as complete, and what an mtime in the future means, is said at `Reader.verdict` and `age_of`; what a deletion is sure of
and what it is not, at `deleting`.
"""

PARTS = (
    "frames",
    "tree",
    "system",
    "endings",
    "selecting",
    "dividing",
    "scanning",
    "reading",
    "hashing",
    "deleting",
    "aside",
    "watching",
    "answering",
)
