"""The nouns of a sync as plain data, shared by the client, the command line and the services.

Protobuf messages stop at the servicers and the client; `mediasync.convert` turns one into the other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display

MAX_PARALLEL_TRANSFERS = 16
MAX_PROBLEMS = 100


class SourceType(enum.StrEnum):
    """What kind of place a source is; see `mediasync.profiles` for what a type brings."""

    SSH = "ssh"
    DOCKER = "docker"
    LOCAL = "local"
    FORGE = "forge"
    COMFYUI = "comfyui"
    VASTAI = "vastai"


class Engine(enum.StrEnum):
    """What lists, reads and deletes at a source."""

    AUTO = "auto"
    """The best that is there."""
    AGENT = "agent"
    """A program of ours that is sent there; needs Python."""
    POSIX = "posix"
    """`find`, `tar` and `sha256sum` of a shell."""
    SFTP = "sftp"
    """The file service of an SSH server; needs no shell."""
    RSYNC = "rsync"
    """The rsync program on both sides."""
    ARCHIVE = "archive"
    """A Docker engine's archives; works on stopped containers."""


class FollowSymlinks(enum.StrEnum):
    """Which links below a source's root are followed. The root and the folders that were named may be links in any case."""

    NONE = "none"
    FILES = "files"
    ALL = "all"


class Duplicates(enum.StrEnum):
    """What becomes of a file whose content the library has already, under another name."""

    KEEP = "keep"
    """It is kept under both."""
    SKIP = "skip"
    """It stays under the one it has; the new one is not made."""
    HARDLINK = "hardlink"
    """Both names share one content, where the file system can."""


class Durability(enum.StrEnum):
    """When a file counts as being in the library."""

    FULL = "full"
    """Once its bytes and its name are on the disk."""
    FAST = "fast"
    """Once they are handed to the system; the disk has them when the sync is complete."""


@dataclass(frozen=True)
class SshConnection:
    """How to reach a host. Empty fields come from `~/.ssh/config`; `port` 0 likewise. Secrets are never in here, only the files
    that hold them."""

    host: str
    port: int = 0
    user: str = ""
    identity_files: tuple[str, ...] = ()
    known_hosts_files: tuple[str, ...] = ()
    accept_new_host_key: bool = False
    password_file: str = ""
    passphrase_file: str = ""

    @property
    def address(self) -> str:
        """`user@host:port` as far as it is known, for messages and keys."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class DockerConnection:
    """A container of a Docker engine. `container` is its name or id, `label:KEY=VALUE`, or `service:[PROJECT:]NAME` of a compose project.

    The engine is that of the Docker `context`, or at `engine_url` (`unix:///…`, `tcp://…`, `ssh://…`); with neither the one that the
    `docker` command would use.
    """

    container: str
    context: str = ""
    engine_url: str = ""

    @property
    def address(self) -> str:
        """`[context@]container`, for messages and keys."""
        return (f"{self.context}@" if self.context else "") + self.container


@dataclass(frozen=True)
class LocalConnection:
    """A folder on the services' own machine."""

    @property
    def address(self) -> str:
        """Nothing: the path says it all."""
        return ""


SourceConnection = SshConnection | DockerConnection | LocalConnection


@dataclass(frozen=True)
class SourceSpec:
    """Where files come from. `root` is bytes as the far side spells it; empty for the type's default."""

    connection: SourceConnection
    root: bytes = b""
    type: SourceType = SourceType.SSH
    name: str = ""
    engine: Engine = Engine.AUTO
    compress: bool = False

    @property
    def scheme(self) -> str:
        """The kind of URL that it has."""
        return _SCHEMES[type(self.connection)]

    @property
    def url(self) -> str:
        """The source as a URL, for people; not parsed again."""
        root = display(self.root)
        return f"{self.scheme}://{self.connection.address}{root if root.startswith('/') else '/' + root}"

    @property
    def label(self) -> str:
        """The configured name, or the URL."""
        return self.name or self.url

    @property
    def key(self) -> str:
        """Identifies what was already taken from it: a named source keeps its memory when its host or port changes, as rented
        machines' do; a bare URL is its own identity."""
        return f"name:{self.name}" if self.name else self.url


_SCHEMES: dict[type, str] = {SshConnection: "ssh", DockerConnection: "docker", LocalConnection: "file"}

REWRITTEN_PATTERNS = ("log.html", "log.csv")
"""Files that generators keep appending to or writing anew: A1111 and Forge log what was saved in them."""


@dataclass(frozen=True)
class SyncOptions:
    """How a sync behaves. Sizes and limits of 0, and empty lists, mean none; empty modes and owners mean the process's own.

    `bandwidth_timetable` holds lines such as `08:00-18:00 20mbit`, local time, that count in place of `bandwidth_limit_mbps` while
    they last.
    """

    parallel_transfers: int = 3
    retry_attempts: int = 3
    retry_delay_seconds: float = 5.0
    extract_metadata: bool = True
    verify_transfers: bool = False
    full_scan: bool = False
    settle_seconds: float = 2.0
    incomplete_after_seconds: float = 3600.0
    newest_first: bool = False
    restore: bool = False
    watch: bool = False
    bandwidth_limit_mbps: float = 0.0
    bandwidth_timetable: tuple[str, ...] = ()
    follow_symlinks: FollowSymlinks = FollowSymlinks.NONE
    min_size_bytes: int = 0
    max_size_bytes: int = 0
    min_age_minutes: float = 0.0
    max_age_days: float = 0.0
    allowed_extensions: tuple[str, ...] = ()
    include_patterns: tuple[str, ...] = ()
    excluded_patterns: tuple[str, ...] = ()
    temporary_suffixes: tuple[str, ...] = ()
    rewritten_patterns: tuple[str, ...] = REWRITTEN_PATTERNS
    duplicates: Duplicates = Duplicates.KEEP
    durability: Durability = Durability.FULL
    min_free_space_gb: float = 1.0
    file_mode: str = ""
    dir_mode: str = ""
    owner: str = ""
    group: str = ""


@dataclass(frozen=True)
class SyncSpec:
    """One sync, as it is asked for. `dest_path` is absolute on the services' machine; no `folders` means the type's default."""

    source: SourceSpec
    dest_path: str
    folders: tuple[bytes, ...] = ()
    options: SyncOptions = field(default_factory=SyncOptions)


@dataclass(frozen=True)
class Problem:
    """Why one file, or a whole job, failed."""

    reason: Reason
    message: str
    remedy: str = ""
    path: bytes | None = None

    @classmethod
    def of(cls, error: MediasyncError, path: bytes | None = None) -> Problem:
        """The problem that `error` describes."""
        return cls(error.reason, error.message, error.remedy, path)

    def as_error(self) -> MediasyncError:
        """The error to raise for it."""
        return MediasyncError(self.reason, self.message, self.remedy)


@dataclass(frozen=True)
class SyncSummary:
    """What a sync, or one folder of it, did, counted over all attempts."""

    files_transferred: int = 0
    bytes_transferred: int = 0
    files_unchanged: int = 0
    files_filtered: int = 0
    files_unsettled: int = 0
    files_failed: int = 0
    files_vanished: int = 0
    files_invalid: int = 0
    problems: tuple[Problem, ...] = ()
    problems_total: int = 0
    duration_seconds: float = 0.0
    files_duplicate: int = 0
    files_culled: int = 0

    def __add__(self, other: SyncSummary) -> SyncSummary:
        return SyncSummary(
            self.files_transferred + other.files_transferred,
            self.bytes_transferred + other.bytes_transferred,
            self.files_unchanged + other.files_unchanged,
            self.files_filtered + other.files_filtered,
            self.files_unsettled + other.files_unsettled,
            self.files_failed + other.files_failed,
            self.files_vanished + other.files_vanished,
            self.files_invalid + other.files_invalid,
            (self.problems + other.problems)[:MAX_PROBLEMS],
            self.problems_total + other.problems_total,
            max(self.duration_seconds, other.duration_seconds),
            self.files_duplicate + other.files_duplicate,
            self.files_culled + other.files_culled,
        )


class JobState(enum.StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    COMPLETE_WITH_ERRORS = "complete_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (JobState.PENDING, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True)
class JobActivity:
    """What the watch of one folder is at. Times are Unix seconds, 0 while the source is there."""

    folder: bytes
    text: str
    gone_since: float = 0.0
    next_try: float = 0.0


@dataclass(frozen=True)
class Job:
    """A sync that was asked for, and what became of it. Times are Unix seconds; 0 before they are known.

    `retry_of` is the job whose failures it takes. `limit_mbps`, 0 for none, counts in place of what the options say; None while they
    count. `activities` are those of a watch that runs.
    """

    job_id: str
    sync_id: str
    state: JobState
    spec: SyncSpec
    create_time: float
    start_time: float = 0.0
    end_time: float = 0.0
    summary: SyncSummary = field(default_factory=SyncSummary)
    problem: Problem | None = None
    retry_of: str = ""
    limit_mbps: float | None = None
    activities: tuple[JobActivity, ...] = ()


class PreviewDecision(enum.StrEnum):
    """What a sync would do with a file."""

    TAKE = "take"
    """Take it: it is new or changed."""
    UNCHANGED = "unchanged"
    """Leave it: it was taken, and has not changed."""
    FILTERED = "filtered"
    """Leave it: it is no result."""
    UNSETTLED = "unsettled"
    """Leave it for later: it is still being written, or too young."""
    CULLED = "culled"
    """Leave it: its owner deleted it in the library."""
    UNREADABLE = "unreadable"
    """It cannot be listed."""


@dataclass(frozen=True, slots=True)
class PreviewedFile:
    """A file, or a folder that cannot be listed, and what a sync would do with it. `reason` says why, for people; `size_bytes` is 0 where
    it was not looked at."""

    path: bytes
    size_bytes: int
    decision: PreviewDecision
    reason: str = ""


@dataclass(frozen=True)
class PreviewSummary:
    """What a sync would do. Files that have not changed are counted, though not every one of them is listed."""

    files_to_take: int = 0
    bytes_to_take: int = 0
    files_unchanged: int = 0
    files_filtered: int = 0
    files_unsettled: int = 0
    files_culled: int = 0
    files_unreadable: int = 0
    files_vanished: int = 0

    def __add__(self, other: PreviewSummary) -> PreviewSummary:
        return PreviewSummary(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


class ProgressStatus(enum.StrEnum):
    """What a job is doing."""

    INITIALIZING = "initializing"
    SCANNING = "scanning"
    TRANSFERRING = "transferring"
    PROCESSING = "processing"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    """Held; it goes on as what it was."""

    @property
    def terminal(self) -> bool:
        """Whether nothing changes any more."""
        return self in (ProgressStatus.COMPLETE, ProgressStatus.FAILED, ProgressStatus.CANCELLED)


@dataclass(frozen=True)
class FolderProgress:
    """Progress of one folder; an empty `folder` stands for files in the root itself."""

    folder: bytes
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    files_failed: int = 0


@dataclass(frozen=True)
class JobProgress:
    """Everything a progress display needs, complete in itself. Times are Unix seconds; 0 or None where unknown."""

    sync_id: str
    job_id: str = ""
    status: ProgressStatus = ProgressStatus.INITIALIZING
    percent: float = 0.0
    current_stage: str = ""
    current_folder: bytes = b""
    current_file: bytes = b""
    folders_total: int = 0
    folders_done: int = 0
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_per_second: int = 0
    remaining_seconds: float | None = None
    start_time: float = 0.0
    update_time: float = 0.0
    end_time: float = 0.0
    errors: int = 0
    warnings: int = 0
    folders: tuple[FolderProgress, ...] = ()
    files_processed: int = 0


@dataclass(frozen=True)
class JobProgressReport:
    """The job as a whole, as its coordinator knows it. Times are Unix seconds; 0 before they are known.

    `errors` and `warnings` count the whole job, what its units reported included; they are known once it has ended. `pause_changes`
    counts how often it was paused or resumed: it is paused while that is odd.
    """

    job_id: str
    status: ProgressStatus
    current_stage: str = ""
    start_time: float = 0.0
    end_time: float = 0.0
    units_total: int = 0
    files_processed: int = 0
    errors: int = 0
    warnings: int = 0
    pause_changes: int = 0


@dataclass(frozen=True)
class UnitProgress:
    """One unit of work, counted over all attempts of the run.

    `status` is SCANNING until every folder's totals are known, then TRANSFERRING. `current_file` is the path of the file that
    moved last, relative to the source's root. `folders` holds a row for each folder of the unit, relative to the same root.
    """

    status: ProgressStatus
    folders: tuple[FolderProgress, ...] = ()
    current_file: bytes = b""
    current_stage: str = ""
    warnings: int = 0
    done: bool = False


ProgressReport = JobProgressReport | UnitProgress


def is_final_report(report: ProgressReport) -> bool:
    """Whether nothing is to come after it from the same reporter."""
    return report.status.terminal if isinstance(report, JobProgressReport) else report.done


@dataclass(frozen=True)
class SourceReport:
    """What a source turned out to be. Free space is None where it is not known; `bytes_per_second` is what reading some of its files
    gave, 0 where there was nothing to read."""

    engine: str
    platform: str
    root: bytes
    folders: tuple[bytes, ...] = ()
    round_trip_seconds: float = 0.0
    clock_offset_seconds: float = 0.0
    files: int = 0
    size_bytes: int = 0
    sample: tuple[bytes, ...] = ()
    tools: tuple[str, ...] = ()
    source_free_bytes: int | None = None
    library_free_bytes: int | None = None
    bytes_per_second: int = 0


class HostKeyTrust(enum.StrEnum):
    """Whether a host's key is known."""

    UNKNOWN = "unknown"
    TRUSTED = "trusted"
    CHANGED = "changed"


@dataclass(frozen=True)
class HostKey:
    """The key a host showed, and whether it is on record."""

    host: str
    algorithm: str
    fingerprint: str
    trust: HostKeyTrust
    known_hosts_file: str = ""


class SourceOrigin(enum.StrEnum):
    """Who put a named source there."""

    CONFIGURATION = "configuration"
    ADDED = "added"


@dataclass(frozen=True)
class NamedSource:
    """A named source, with the sync that its name stands for. `create_time` is Unix seconds, 0 for the configuration's."""

    name: str
    spec: SyncSpec
    origin: SourceOrigin
    create_time: float = 0.0


@dataclass(frozen=True)
class GenerationMetadata:
    """What generated a file and how, as far as the file says; empty or None where it does not.

    Texts are the file's own, hostile input to whatever shows them; the pipeline has freed them of NUL and lone surrogates and
    bounded their length.
    """

    generator: str = ""
    generator_version: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    model_hash: str = ""
    seed: int | None = None
    sampler: str = ""
    scheduler: str = ""
    steps: int | None = None
    cfg_scale: float | None = None
    loras: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    prompt_json: bytes = b""
    workflow_json: bytes = b""
    parameters: str = ""


@dataclass(frozen=True)
class CatalogFile:
    """A file as the catalog knows it. Paths are relative to the library's root; times are Unix seconds, 0 where unknown; pixels likewise.

    `processed` says that its metadata was looked for; `metadata` is None when nothing was found.
    """

    library_path: bytes
    library_root: str
    source: str
    source_path: bytes
    sync_id: str
    size_bytes: int
    sha256: str
    modify_time: float
    sync_time: float
    source_delete_time: float = 0.0
    media_type: str = ""
    width: int = 0
    height: int = 0
    incomplete: bool = False
    processed: bool = False
    metadata: GenerationMetadata | None = None
    invalid: Problem | None = None
    xmp_path: bytes = b""
    thumbnail_path: bytes = b""
