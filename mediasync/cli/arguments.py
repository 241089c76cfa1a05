"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LIMITS = "How fast, and what first"
CHOICE = "Which files"
LIBRARY = "In the library"
REACH = "Reaching the source"
SUBSCRIBER = "Reaching the subscriber"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Coordinator = Annotated[
    str,
    typer.Option(
        "--coordinator",
        envvar="MEDIASYNC_COORDINATOR_ADDRESS",
        metavar="HOST:PORT",
        help="Use the services at this address, not this machine's.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration file; default: MEDIASYNC_CONFIG, else ~/.config/mediasync/config.yaml."),
]
Folders = Annotated[
    list[str] | None,
    typer.Option(
        "--folder", metavar="NAME", help="Only this folder below the source's path; repeatable. Default: the profile's, or everything."
    ),
]
IdentityFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--identity-file", "-i", metavar="FILE", help="Private SSH key; default: ~/.ssh/config and the agent.", rich_help_panel=REACH
    ),
]
KnownHosts = Annotated[
    list[Path] | None,
    typer.Option("--known-hosts", metavar="FILE", help="Known-hosts file; default: ~/.ssh/known_hosts.", rich_help_panel=REACH),
]
AcceptNew = Annotated[
    bool,
    typer.Option(
        "--accept-new-host-key",
        help="Accept and remember the key of a host that was never seen. Never a changed one.",
        rich_help_panel=REACH,
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="File that holds the login's password; or MEDIASYNC_SSH_PASSWORD, for a URL.",
        rich_help_panel=REACH,
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File that holds the passphrase of the private key; or MEDIASYNC_SSH_PASSPHRASE, for a URL.",
        rich_help_panel=REACH,
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="What lists and reads there. Over SSH: auto, agent, posix, sftp, rsync; in a container: auto, agent, posix, archive.",
        rich_help_panel=REACH,
        show_default=False,
    ),
]
BandwidthLimit = Annotated[
    str,
    typer.Option(
        "--bandwidth-limit",
        metavar="RATE",
        help="At most so fast, such as 20mbit, 2.5MB (a second) or off; `jobs limit` changes it later.",
        rich_help_panel=LIMITS,
        show_default=False,
    ),
]
NewestFirst = Annotated[
    bool, typer.Option("--newest-first", help="Take the files that changed last first.", rich_help_panel=LIMITS, show_default=False)
]
Compress = Annotated[
    bool, typer.Option("--compress", help="Compress on the way; for slow lines.", rich_help_panel=LIMITS, show_default=False)
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="PATTERN", help="Only what matches, as in .gitignore; repeatable.", rich_help_panel=CHOICE),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="Nothing that matches, as in .gitignore; repeatable.", rich_help_panel=CHOICE),
]
Extensions = Annotated[
    list[str] | None,
    typer.Option("--ext", metavar="EXT", help="Only files that end so, such as png,webp; repeatable.", rich_help_panel=CHOICE),
]
MinSize = Annotated[
    str,
    typer.Option("--min-size", metavar="SIZE", help="No smaller files; such as 10kB or 1.5MB.", rich_help_panel=CHOICE, show_default=False),
]
MaxSize = Annotated[str, typer.Option("--max-size", metavar="SIZE", help="No larger files.", rich_help_panel=CHOICE, show_default=False)]
MinAge = Annotated[
    str,
    typer.Option(
        "--min-age",
        metavar="AGE",
        help="Nothing that changed since; such as 90s, 10m, 2h or 7d.",
        rich_help_panel=CHOICE,
        show_default=False,
    ),
]
MaxAge = Annotated[
    str, typer.Option("--max-age", metavar="AGE", help="Nothing that changed before.", rich_help_panel=CHOICE, show_default=False)
]
Symlinks = Annotated[
    str,
    typer.Option(
        "--follow-symlinks",
        metavar="none|files|all",
        help="Which links below the source's path are followed; default: none.",
        rich_help_panel=CHOICE,
        show_default=False,
    ),
]
Restore = Annotated[
    bool,
    typer.Option("--restore", help="Bring back what was deleted in the library.", rich_help_panel=LIBRARY, show_default=False),
]
DuplicatesChoice = Annotated[
    str,
    typer.Option(
        "--duplicates",
        metavar="keep|skip|hardlink",
        help="Content that the library has under another name; default: keep.",
        rich_help_panel=LIBRARY,
        show_default=False,
    ),
]
DurabilityChoice = Annotated[
    str,
    typer.Option(
        "--durability",
        metavar="full|fast",
        help="When a file counts as there: on the disk, or handed to the system; default: full.",
        rich_help_panel=LIBRARY,
        show_default=False,
    ),
]
Parallel = Annotated[
    int | None, typer.Option("--parallel-transfers", metavar="N", help="Connections at a time; default: 3.", rich_help_panel=LIMITS)
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="forge|comfyui|vastai",
        help="What runs there; brings port, path and folders, whatever the way there.",
        rich_help_panel=REACH,
        show_default=False,
    ),
]
EventSources = Annotated[
    list[str] | None, typer.Option("--source", metavar="NAME", help="Only of this source (its name, or its URL); repeatable.")
]
EventPaths = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="PATTERN", help="Only files whose path in the library matches, as in .gitignore; repeatable."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", metavar="FILE", help="Speak TLS, and believe these certificates; needed off this machine.", rich_help_panel=SUBSCRIBER
    ),
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Our certificate, where it asks for one.", rich_help_panel=SUBSCRIBER)
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="The key of that.", rich_help_panel=SUBSCRIBER)]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with a token, sent as `authorization: Bearer`.",
        rich_help_panel=SUBSCRIBER,
    ),
]
