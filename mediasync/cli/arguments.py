"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    typer.Option("--identity-file", "-i", metavar="FILE", help="Private SSH key; default: ~/.ssh/config and the agent."),
]
KnownHosts = Annotated[
    list[Path] | None, typer.Option("--known-hosts", metavar="FILE", help="Known-hosts file; default: ~/.ssh/known_hosts.")
]
AcceptNew = Annotated[
    bool,
    typer.Option("--accept-new-host-key", help="Accept and remember the key of a host that was never seen. Never a changed one."),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="File that holds the login's password; or MEDIASYNC_SSH_PASSWORD, for a URL."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File that holds the passphrase of the private key; or MEDIASYNC_SSH_PASSPHRASE, for a URL.",
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="What lists and reads there. Over SSH: auto, agent, posix, sftp, rsync; in a container: auto, agent, archive.",
        show_default=False,
    ),
]
Parallel = Annotated[int | None, typer.Option("--parallel-transfers", metavar="N", help="SSH connections at a time; default: 3.")]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="forge|comfyui|vastai",
        help="What runs there; brings port, path and folders, whatever the way there.",
        show_default=False,
    ),
]
