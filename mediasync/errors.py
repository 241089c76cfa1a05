"""The one catalog of what can go wrong: reason -> gRPC status, exit code, and what to do about it.

Every error that leaves a module is a `MediasyncError` with a `Reason` from here. The reason is stable and travels in the
`ErrorInfo` of a gRPC status; texts are for people and may change. This module imports no gRPC, so that anything may use it;
`mediasync.runtime.status` turns these errors into statuses and back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DOMAIN = "mediasync"


class ExitCode(enum.IntEnum):
    """What the command line ends with."""

    DONE = 0
    SOME_FILES_FAILED = 1
    USAGE = 2
    SOURCE = 3
    LIBRARY = 4
    CANCELLED = 5
    SERVICES = 6
    BUG = 70


class Reason(enum.StrEnum):
    """Why something failed. The value travels on the wire; never rename one."""

    # The source cannot be reached or refuses us.
    HOST_NOT_FOUND = "HOST_NOT_FOUND"
    HOST_UNREACHABLE = "HOST_UNREACHABLE"
    CONNECTION_LOST = "CONNECTION_LOST"
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    HOST_KEY_UNKNOWN = "HOST_KEY_UNKNOWN"
    HOST_KEY_CHANGED = "HOST_KEY_CHANGED"
    SOURCE_ROOT_MISSING = "SOURCE_ROOT_MISSING"
    SOURCE_FOLDER_MISSING = "SOURCE_FOLDER_MISSING"
    SOURCE_UNREADABLE = "SOURCE_UNREADABLE"
    SOURCE_WITHOUT_PYTHON = "SOURCE_WITHOUT_PYTHON"
    SOURCE_PROTOCOL = "SOURCE_PROTOCOL"
    ENGINE_CANNOT = "ENGINE_CANNOT"
    CONTAINER_NOT_FOUND = "CONTAINER_NOT_FOUND"
    CONTAINER_STOPPED = "CONTAINER_STOPPED"
    DOCKER_UNREACHABLE = "DOCKER_UNREACHABLE"
    DOCKER_DENIED = "DOCKER_DENIED"
    DOCKER_CONTEXT_UNKNOWN = "DOCKER_CONTEXT_UNKNOWN"
    # The library cannot be written, or is not what it should be.
    LIBRARY_MISSING = "LIBRARY_MISSING"
    LIBRARY_READ_ONLY = "LIBRARY_READ_ONLY"
    LIBRARY_MARKER_MISSING = "LIBRARY_MARKER_MISSING"
    LIBRARY_MARKER_MISMATCH = "LIBRARY_MARKER_MISMATCH"
    LIBRARY_NOT_MOUNTED = "LIBRARY_NOT_MOUNTED"
    LIBRARY_NO_SPACE = "LIBRARY_NO_SPACE"
    LIBRARY_RESERVE = "LIBRARY_RESERVE"
    LIBRARY_IN_DATA_FOLDER = "LIBRARY_IN_DATA_FOLDER"
    LIBRARY_IO = "LIBRARY_IO"
    LIBRARY_BUSY = "LIBRARY_BUSY"
    # One file.
    FILE_UNREADABLE = "FILE_UNREADABLE"
    FILE_NAME_UNSAFE = "FILE_NAME_UNSAFE"
    FILE_NAME_NOT_POSSIBLE = "FILE_NAME_NOT_POSSIBLE"
    FILE_VERIFY_FAILED = "FILE_VERIFY_FAILED"
    FILE_INVALID = "FILE_INVALID"
    FILE_NOT_DELETED = "FILE_NOT_DELETED"
    FOLDER_UNREADABLE = "FOLDER_UNREADABLE"
    # A clean-up is refused as a whole.
    CLEANUP_BUSY = "CLEANUP_BUSY"
    CLEANUP_NOTHING_SYNCED = "CLEANUP_NOTHING_SYNCED"
    CLEANUP_SOURCE_DIFFERENT = "CLEANUP_SOURCE_DIFFERENT"
    CLEANUP_LIBRARY_AMBIGUOUS = "CLEANUP_LIBRARY_AMBIGUOUS"
    CLEANUP_IS_LIBRARY = "CLEANUP_IS_LIBRARY"
    CLEANUP_UNVERIFIED = "CLEANUP_UNVERIFIED"
    CLEANUP_PLAN_EXPIRED = "CLEANUP_PLAN_EXPIRED"
    # A subscriber does not have what it was to have.
    SUBSCRIBER_REJECTED = "SUBSCRIBER_REJECTED"
    # Wrong use or configuration.
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    CONFIGURATION_INVALID = "CONFIGURATION_INVALID"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    RESUME_TOKEN_EXPIRED = "RESUME_TOKEN_EXPIRED"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    SYNC_NOT_FOUND = "SYNC_NOT_FOUND"
    JOB_ENDED = "JOB_ENDED"
    JOB_NOT_ENDED = "JOB_NOT_ENDED"
    NOTHING_FAILED = "NOTHING_FAILED"
    CLEANUP_NOT_FOUND = "CLEANUP_NOT_FOUND"
    SCHEDULE_NOT_FOUND = "SCHEDULE_NOT_FOUND"
    FILE_NOT_FOUND = "FILE_NOT_FOUND"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    SOURCE_EXISTS = "SOURCE_EXISTS"
    SOURCE_IN_CONFIGURATION = "SOURCE_IN_CONFIGURATION"
    SUBSCRIPTION_NOT_FOUND = "SUBSCRIPTION_NOT_FOUND"
    SUBSCRIPTION_EXISTS = "SUBSCRIPTION_EXISTS"
    SUBSCRIPTION_FIXED = "SUBSCRIPTION_FIXED"
    SUBSCRIPTION_WRONG_KIND = "SUBSCRIPTION_WRONG_KIND"
    SUBSCRIPTION_BUSY = "SUBSCRIPTION_BUSY"
    SUBSCRIBER_TOO_FAR_BEHIND = "SUBSCRIBER_TOO_FAR_BEHIND"
    DEAD_LETTER_NOT_FOUND = "DEAD_LETTER_NOT_FOUND"
    DATABASE_UNUSABLE = "DATABASE_UNUSABLE"
    DATA_FOLDER_NEWER = "DATA_FOLDER_NEWER"
    DATA_FOLDER_IN_USE = "DATA_FOLDER_IN_USE"
    DATA_FOLDER_UNUSABLE = "DATA_FOLDER_UNUSABLE"
    ADDRESS_IN_USE = "ADDRESS_IN_USE"
    ADDRESS_NOT_LOOPBACK = "ADDRESS_NOT_LOOPBACK"
    # The services.
    SERVICES_UNREACHABLE = "SERVICES_UNREACHABLE"
    SERVICE_FAILED_TO_START = "SERVICE_FAILED_TO_START"
    DATABASE_UNREACHABLE = "DATABASE_UNREACHABLE"
    SUBSCRIBER_UNREACHABLE = "SUBSCRIBER_UNREACHABLE"
    SUBSCRIBER_MISBEHAVES = "SUBSCRIBER_MISBEHAVES"
    SUBSCRIBER_NOT_IN_TIME = "SUBSCRIBER_NOT_IN_TIME"
    WORKER_FULL = "WORKER_FULL"
    SYNC_IN_PROGRESS = "SYNC_IN_PROGRESS"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class CatalogEntry:
    """How a reason is said: `status` is the name of a gRPC status code."""

    status: str
    exit_code: ExitCode
    remedy: str = ""


_SOURCE, _LIBRARY, _USAGE, _SERVICES = ExitCode.SOURCE, ExitCode.LIBRARY, ExitCode.USAGE, ExitCode.SERVICES
_FILE = ExitCode.SOME_FILES_FAILED

CATALOG: Mapping[Reason, CatalogEntry] = {
    Reason.HOST_NOT_FOUND: CatalogEntry("UNAVAILABLE", _SOURCE, "Check the host's name, or add it to ~/.ssh/config."),
    Reason.HOST_UNREACHABLE: CatalogEntry("UNAVAILABLE", _SOURCE, "Check that the container runs and that its SSH port is published."),
    Reason.CONNECTION_LOST: CatalogEntry("UNAVAILABLE", _SOURCE, "Run the same command again: it goes on with what is left."),
    Reason.AUTHENTICATION_FAILED: CatalogEntry(
        "FAILED_PRECONDITION",
        _SOURCE,
        "Give the right key with --identity-file, or add your public key to the far side's ~/.ssh/authorized_keys.",
    ),
    Reason.HOST_KEY_UNKNOWN: CatalogEntry("FAILED_PRECONDITION", _SOURCE),
    Reason.HOST_KEY_CHANGED: CatalogEntry("FAILED_PRECONDITION", _SOURCE),
    Reason.SOURCE_ROOT_MISSING: CatalogEntry("FAILED_PRECONDITION", _SOURCE),
    Reason.SOURCE_FOLDER_MISSING: CatalogEntry("FAILED_PRECONDITION", _SOURCE),
    Reason.SOURCE_UNREADABLE: CatalogEntry("FAILED_PRECONDITION", _SOURCE, "Log in as a user who may read the folder."),
    Reason.SOURCE_WITHOUT_PYTHON: CatalogEntry(
        "FAILED_PRECONDITION", _SOURCE, "Install python3 (3.6 or later) on the far side, or log in to a container that has it."
    ),
    Reason.SOURCE_PROTOCOL: CatalogEntry(
        "UNAVAILABLE", _SOURCE, "Run `mediasync sources test` and look at `mediasync logs --level debug`."
    ),
    Reason.ENGINE_CANNOT: CatalogEntry("FAILED_PRECONDITION", _SOURCE, "Choose another engine; docs/sources.md says what each can do."),
    Reason.CONTAINER_NOT_FOUND: CatalogEntry("UNAVAILABLE", _SOURCE, "`docker ps --all` shows the containers there are."),
    Reason.CONTAINER_STOPPED: CatalogEntry(
        "UNAVAILABLE", _SOURCE, "Start it with `docker start`, or take the files out of the stopped one with `engine: archive`."
    ),
    Reason.DOCKER_UNREACHABLE: CatalogEntry("UNAVAILABLE", _SOURCE),
    Reason.DOCKER_DENIED: CatalogEntry("FAILED_PRECONDITION", _SOURCE),
    Reason.DOCKER_CONTEXT_UNKNOWN: CatalogEntry("FAILED_PRECONDITION", _SOURCE),
    Reason.LIBRARY_MISSING: CatalogEntry("FAILED_PRECONDITION", _LIBRARY),
    Reason.LIBRARY_READ_ONLY: CatalogEntry("FAILED_PRECONDITION", _LIBRARY, "Mount it writable, or choose another destination."),
    Reason.LIBRARY_MARKER_MISSING: CatalogEntry("FAILED_PRECONDITION", _LIBRARY),
    Reason.LIBRARY_MARKER_MISMATCH: CatalogEntry("FAILED_PRECONDITION", _LIBRARY),
    Reason.LIBRARY_NOT_MOUNTED: CatalogEntry("FAILED_PRECONDITION", _LIBRARY),
    Reason.LIBRARY_NO_SPACE: CatalogEntry("FAILED_PRECONDITION", _LIBRARY, "Free some space and run the same command again."),
    Reason.LIBRARY_RESERVE: CatalogEntry(
        "FAILED_PRECONDITION", _LIBRARY, "Free some space and run the same command again, or set a smaller min_free_space_gb."
    ),
    Reason.LIBRARY_IN_DATA_FOLDER: CatalogEntry("INVALID_ARGUMENT", _LIBRARY, "Choose a destination outside the data folder."),
    Reason.LIBRARY_IO: CatalogEntry("FAILED_PRECONDITION", _LIBRARY, "Check the disk or the network mount."),
    Reason.LIBRARY_BUSY: CatalogEntry("FAILED_PRECONDITION", _LIBRARY, "Wait for its end, or stop it: it goes on where it was."),
    Reason.FILE_UNREADABLE: CatalogEntry("FAILED_PRECONDITION", _FILE, "Make it readable for the login user at the source."),
    Reason.FILE_NAME_UNSAFE: CatalogEntry("FAILED_PRECONDITION", _FILE, "Rename it at the source."),
    Reason.FILE_NAME_NOT_POSSIBLE: CatalogEntry(
        "FAILED_PRECONDITION", _FILE, "Rename it at the source; the library's file system cannot hold the name."
    ),
    Reason.FILE_VERIFY_FAILED: CatalogEntry("UNAVAILABLE", _FILE, "Check the library's disk, then run the same command again."),
    Reason.FILE_INVALID: CatalogEntry("FAILED_PRECONDITION", _FILE),
    Reason.FILE_NOT_DELETED: CatalogEntry("FAILED_PRECONDITION", _FILE, "Give the login user the right to delete it at the source."),
    Reason.FOLDER_UNREADABLE: CatalogEntry("FAILED_PRECONDITION", _FILE, "Make it readable for the login user at the source."),
    Reason.CLEANUP_BUSY: CatalogEntry("UNAVAILABLE", _SERVICES, "Wait for the other clean-up of the same source, or cancel it."),
    Reason.CLEANUP_NOTHING_SYNCED: CatalogEntry(
        "FAILED_PRECONDITION", _USAGE, "Name source and library as they were synced (a URL and a name are two sources), or sync it first."
    ),
    Reason.CLEANUP_SOURCE_DIFFERENT: CatalogEntry(
        "FAILED_PRECONDITION", _USAGE, "See what is there with `mediasync sources test`; sync it first if it is the right one."
    ),
    Reason.CLEANUP_LIBRARY_AMBIGUOUS: CatalogEntry("FAILED_PRECONDITION", _USAGE, "Say which with --library DIR."),
    Reason.CLEANUP_IS_LIBRARY: CatalogEntry("FAILED_PRECONDITION", _USAGE),
    Reason.CLEANUP_UNVERIFIED: CatalogEntry("FAILED_PRECONDITION", _USAGE),
    Reason.CLEANUP_PLAN_EXPIRED: CatalogEntry("NOT_FOUND", _USAGE, "Make a new plan: run the same command again."),
    Reason.SUBSCRIBER_REJECTED: CatalogEntry(
        "FAILED_PRECONDITION", _FILE, "`mediasync events dead-letters list` says what it rejected, and why."
    ),
    Reason.INVALID_ARGUMENT: CatalogEntry("INVALID_ARGUMENT", _USAGE),
    Reason.CONFIGURATION_INVALID: CatalogEntry("INVALID_ARGUMENT", _USAGE),
    Reason.REQUEST_ID_REUSED: CatalogEntry("INVALID_ARGUMENT", _USAGE, "Draw a new request id for a new request."),
    Reason.RESUME_TOKEN_EXPIRED: CatalogEntry("OUT_OF_RANGE", _SERVICES, "Watch again without a token."),
    Reason.JOB_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync jobs list` shows the jobs there are."),
    Reason.SYNC_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync jobs list` shows the jobs there are."),
    Reason.JOB_ENDED: CatalogEntry("FAILED_PRECONDITION", _USAGE, "`mediasync jobs retry JOB` starts a new one for what it did not bring."),
    Reason.JOB_NOT_ENDED: CatalogEntry("FAILED_PRECONDITION", _USAGE, "Wait for its end, or cancel it first."),
    Reason.NOTHING_FAILED: CatalogEntry("FAILED_PRECONDITION", _USAGE, "`mediasync sync` brings what is new since."),
    Reason.CLEANUP_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync clean history` shows what was cleaned up."),
    Reason.SCHEDULE_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync schedules list` shows the schedules there are."),
    Reason.FILE_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync files list` shows the files there are."),
    Reason.SOURCE_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync sources list` shows the sources there are."),
    Reason.SOURCE_EXISTS: CatalogEntry("ALREADY_EXISTS", _USAGE, "Choose another name, or remove that one first."),
    Reason.SOURCE_IN_CONFIGURATION: CatalogEntry("FAILED_PRECONDITION", _USAGE, "Change it in the configuration file."),
    Reason.SUBSCRIPTION_NOT_FOUND: CatalogEntry("NOT_FOUND", _USAGE, "`mediasync subscribers list` shows the subscriptions there are."),
    Reason.SUBSCRIPTION_EXISTS: CatalogEntry("ALREADY_EXISTS", _USAGE, "Choose another name, or remove that one first."),
    Reason.SUBSCRIPTION_FIXED: CatalogEntry("FAILED_PRECONDITION", _USAGE, "Change it in the configuration file."),
    Reason.SUBSCRIPTION_WRONG_KIND: CatalogEntry("FAILED_PRECONDITION", _USAGE),
    Reason.SUBSCRIPTION_BUSY: CatalogEntry("FAILED_PRECONDITION", _USAGE, "Wait for the end of what is under way, then ask again."),
    Reason.SUBSCRIBER_TOO_FAR_BEHIND: CatalogEntry(
        "OUT_OF_RANGE", _USAGE, "Fill it again: `mediasync events replay --subscriber NAME --from snapshot`."
    ),
    Reason.DEAD_LETTER_NOT_FOUND: CatalogEntry(
        "NOT_FOUND", _USAGE, "`mediasync events dead-letters list` shows the dead letters there are."
    ),
    Reason.DATABASE_UNUSABLE: CatalogEntry("FAILED_PRECONDITION", _USAGE),
    Reason.DATA_FOLDER_NEWER: CatalogEntry(
        "FAILED_PRECONDITION", _USAGE, "Upgrade mediasync, or use another data folder (MEDIASYNC_HOME)."
    ),
    Reason.DATA_FOLDER_IN_USE: CatalogEntry(
        "FAILED_PRECONDITION", _USAGE, "Use the running one, stop it, or choose another data folder (MEDIASYNC_HOME)."
    ),
    Reason.DATA_FOLDER_UNUSABLE: CatalogEntry(
        "FAILED_PRECONDITION", _USAGE, "Make it writable, or choose another data folder (MEDIASYNC_HOME)."
    ),
    Reason.ADDRESS_IN_USE: CatalogEntry("FAILED_PRECONDITION", _USAGE),
    Reason.ADDRESS_NOT_LOOPBACK: CatalogEntry("FAILED_PRECONDITION", _USAGE, "Use a loopback address; others need mutual TLS."),
    Reason.SERVICES_UNREACHABLE: CatalogEntry("UNAVAILABLE", _SERVICES, "Start them with `mediasync up`, or look at `mediasync status`."),
    Reason.SERVICE_FAILED_TO_START: CatalogEntry("UNAVAILABLE", _SERVICES, "`mediasync logs` says why."),
    Reason.DATABASE_UNREACHABLE: CatalogEntry("UNAVAILABLE", _SERVICES, "Check that the database runs and that its address is right."),
    Reason.SUBSCRIBER_UNREACHABLE: CatalogEntry("UNAVAILABLE", _SERVICES, "Start the subscriber, or correct its address."),
    Reason.SUBSCRIBER_MISBEHAVES: CatalogEntry(
        "FAILED_PRECONDITION", _SERVICES, "`mediasync subscribers check ADDRESS` tries every call of it."
    ),
    Reason.SUBSCRIBER_NOT_IN_TIME: CatalogEntry("DEADLINE_EXCEEDED", _SERVICES, "`mediasync subscribers show NAME` says what it is at."),
    Reason.WORKER_FULL: CatalogEntry("RESOURCE_EXHAUSTED", _SERVICES),
    Reason.SYNC_IN_PROGRESS: CatalogEntry("UNAVAILABLE", _SERVICES, "Wait for the other sync of the same source, or cancel it."),
    Reason.DEADLINE_EXCEEDED: CatalogEntry("DEADLINE_EXCEEDED", _SERVICES),
    Reason.CANCELLED: CatalogEntry("CANCELLED", ExitCode.CANCELLED),
    Reason.INTERNAL: CatalogEntry("INTERNAL", ExitCode.BUG, "This is a bug; `mediasync logs --level error` has the details."),
}


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request, or key of a file, that is wrong."""

    field: str
    description: str


@dataclass(eq=False)
class MediasyncError(Exception):
    """Something went wrong that a person can do something about.

    `message` names the thing and says why; `remedy` says what to do next and is the catalog's unless given. `fields`
    lists every field that is wrong; `metadata` holds machine-readable details such as a fingerprint.
    """

    reason: Reason
    message: str
    remedy: str = ""
    fields: Sequence[FieldViolation] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.message)
        if not self.remedy:
            self.remedy = CATALOG[self.reason].remedy

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process and executor borders by pickle, which would call the class with `args` alone.
        return (type(self), (self.reason, self.message, self.remedy, tuple(self.fields), dict(self.metadata)))

    @property
    def status(self) -> str:
        """Name of the gRPC status code, such as `NOT_FOUND`."""
        return CATALOG[self.reason].status

    @property
    def exit_code(self) -> ExitCode:
        """What a command that fails with it ends with."""
        return CATALOG[self.reason].exit_code

    @property
    def retryable(self) -> bool:
        """Whether the same call may go well later with nothing changed by a person."""
        return self.status in {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


def reason_of(text: str) -> Reason:
    """The reason named by `text`; INTERNAL for one that this version does not know."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.INTERNAL
