"""`mediasync library`: the library as a whole."""

from __future__ import annotations

from typing import Annotated

import typer

from mediasync.cli.arguments import AsJson, Config, Coordinator, IdentityFiles, KnownHosts

app = typer.Typer(help="The library as a whole: check it, take in what is there, sum it up.", no_args_is_help=True)

Library = Annotated[
    str,
    typer.Option(
        "--library",
        "-l",
        metavar="DIR",
        help="The library's folder. Default: the one that PATH is in, else MEDIA_BASE, else the one that this folder is in.",
        show_default=False,
    ),
]


@app.command()
def verify(
    path: Annotated[
        str, typer.Argument(help="Only this file or folder of the library. Default: everything.", metavar="[PATH]", show_default=False)
    ] = "",
    library: Library = "",
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and compare the hash: finds what a disk lost.")] = False,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="Leave out files that neither came nor changed since then: 7d, 12h, 2026-11-21 or 2026-11-21T10:00.",
            show_default=False,
        ),
    ] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring what is missing or corrupt again, from a source that still has it.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="What is missing is meant to be, and what was edited is right as it is: say so no more.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, also where an earlier verify was cut off.")] = False,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Compare the library with what is on record of it: what is missing, changed, corrupt, moved or unknown.

    Changes no file, but with --repair. Ends with 1 if anything is missing, changed, corrupt or unreadable; what was moved or is unknown is
    told and is nothing wrong. One that is cut off goes on where it was when it is asked for again.

    Example: mediasync library verify --library /media/library

    Example: mediasync library verify /media/library/txt2img-images --deep --repair

    Example: mediasync library verify --deep --since 30d --json
    """
    import asyncio

    from mediasync.cli import library_places, library_work
    from mediasync.cli.session import configure
    from mediasync.cli.sync_options import wrong
    from mediasync.library import VerifyOptions

    if repair and accept:
        raise wrong("--repair", "--repair brings again what is missing and --accept lets it be; choose one")
    configuration = configure()
    root, below = library_places.find(path, library, str(configuration.media_base or ""))
    options = VerifyOptions(below, deep, library_places.moment_ns("--since", since), restart, accept)
    code = asyncio.run(library_work.verify(root, options, repair, as_json, coordinator))
    if code:
        raise typer.Exit(code)


@app.command()
def adopt(
    path: Annotated[str, typer.Argument(help="The folder.", show_default=False)],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="NAME|URL",
            help="Then sync from there: what is in the library already is compared by hash, not brought again.",
            show_default=False,
        ),
    ] = "",
    identity_files: IdentityFiles = None,
    known_hosts: KnownHosts = None,
    config: Config = None,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Make a library of a folder that was filled by other means, such as rsync: hash what is there and put it on record.

    Changes and moves no file. Repeated, it takes only what is new; one that is cut off goes on where it was. The catalog shows the files at
    once, their prompts as they are read.

    Example: mediasync library adopt /media/library

    Example: mediasync library adopt /media/library --source ssh://user@forge.lan:2222/outputs
    """
    import asyncio

    from mediasync.cli import library_places, library_work
    from mediasync.cli.session import configure
    from mediasync.cli.targets import Wishes, check_sync

    configuration = configure(config)
    root = library_places.absolute(path)
    wishes = Wishes(dest=root, identity_files=identity_files or (), known_hosts=known_hosts or (), options={"watch": False})
    if source:
        check_sync(source, wishes, configuration)
    own_file = config is not None
    code = asyncio.run(library_work.adopt(root, source, wishes, configuration, own_file, as_json, coordinator))
    if code:
        raise typer.Exit(code)


@app.command()
def stats(
    path: Annotated[
        str,
        typer.Argument(
            help="The library's folder. Default: MEDIA_BASE, else the one that this folder is in.", metavar="[DIR]", show_default=False
        ),
    ] = "",
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Sum the library up: files and bytes, by source and type, duplicates, the last verify, free space.

    Example: mediasync library stats /media/library
    """
    import asyncio

    from mediasync.cli import library_places, library_work
    from mediasync.cli.session import configure

    configuration = configure()
    root, _ = library_places.find("", path, str(configuration.media_base or ""))
    asyncio.run(library_work.stats(root, as_json, coordinator))
