"""`mediasync sources`: places with a name, what is there, and whose keys are trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mediasync.cli.arguments import (
    AcceptNew,
    AsJson,
    Config,
    Coordinator,
    EngineName,
    Folders,
    IdentityFiles,
    KnownHosts,
    Parallel,
    PassphraseFile,
    PasswordFile,
    Profile,
)

if TYPE_CHECKING:
    from mediasync.client import Client
    from mediasync.model import HostKey, NamedSource, SourceReport, SourceSpec, SyncSpec

app = typer.Typer(help="Named sources: where files come from.", no_args_is_help=True)

_CLOCK_WARN_SECONDS = 300.0

Name = Annotated[str, typer.Argument(help="The source's name.")]
NameOrUrl = Annotated[
    str, typer.Argument(help=r"A named source, ssh://\[user@]host\[:port]/path, docker://\[context@]container/path, or a folder.")
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="1 to 64 of letters, digits, `.`, `_` and `-`.")],
    url: Annotated[
        str,
        typer.Argument(help=r"ssh://\[user@]host\[:port]/path, docker://\[context@]container/path, or a folder such as /path or ./path."),
    ],
    dest: Annotated[
        str, typer.Option("--dest", metavar="FOLDER", help="The library's folder. Default: MEDIA_BASE, or given at each sync.")
    ] = "",
    folders: Folders = None,
    profile: Profile = "",
    identity_files: IdentityFiles = None,
    known_hosts: KnownHosts = None,
    accept_new_host_key: AcceptNew = False,
    parallel_transfers: Parallel = None,
    password_file: PasswordFile = None,
    passphrase_file: PassphraseFile = None,
    engine: EngineName = "",
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Give a source a name, so that `mediasync sync NAME` is enough.

    A named source keeps its memory of what was taken when its host or port changes, as rented machines' do.

    Example: mediasync sources add forge ssh://user@forge.lan:2222 --profile forge --dest /media/library

    Example: mediasync sources add comfy docker://comfyui --profile comfyui
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected
    from mediasync.cli.targets import Wishes, spec_from_url

    wishes = Wishes(
        dest,
        folders or (),
        profile,
        identity_files or (),
        known_hosts or (),
        accept_new_host_key,
        parallel_transfers,
        password_file=password_file,
        passphrase_file=passphrase_file,
        engine=engine,
    )
    spec = spec_from_url(url, wishes, configure(), needs_dest=False)

    async def run() -> NamedSource:
        async with connected("sources add", coordinator) as (client, _):
            return await client.add_source(name, spec)

    source = asyncio.run(run())
    if as_json:
        output.print_json(source_json(source))
        return
    output.line(f"{source.name} is {source.spec.source.url}")
    to = "" if source.spec.dest_path else " DEST"
    output.note(f"Try it with `mediasync sources test {source.name}`, then `mediasync sync {source.name}{to}`.")


@app.command("list")
def list_(as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """List named sources: those of the configuration file, and those that were added.

    Example: mediasync sources list
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> list[NamedSource]:
        async with connected("sources list", coordinator) as (client, _):
            return [source async for source in client.list_sources()]

    sources = asyncio.run(run())
    if as_json:
        output.print_json({"sources": [source_json(source) for source in sources]})
    elif not sources:
        output.note("No source has a name yet; `mediasync sources add NAME URL` gives one.")
    else:
        output.table(
            ["name", "type", "url", "to", "from"],
            [[s.name, s.spec.source.type.value, s.spec.source.url, s.spec.dest_path, s.origin.value] for s in sources],
        )


@app.command()
def show(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Show one named source.

    Example: mediasync sources show forge
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected
    from mediasync.paths import display

    configure()

    async def run() -> NamedSource:
        async with connected("sources show", coordinator) as (client, _):
            return await client.get_source(name)

    source = asyncio.run(run())
    if as_json:
        output.print_json(source_json(source))
        return
    spec = source.spec
    output.pairs(
        [
            ("name", source.name),
            ("type", spec.source.type.value),
            ("url", spec.source.url),
            ("to", spec.dest_path or "given at each sync"),
            ("folders", ", ".join(display(folder) for folder in spec.folders) or "the type's, or everything"),
            *_connection_pairs(spec.source),
            ("parallel", spec.options.parallel_transfers),
            ("clean-up", _cleanup(spec)),
            ("from", "the configuration file" if source.origin.value == "configuration" else "`mediasync sources add`"),
            ("added", output.moment(source.create_time)),
        ]
    )


@app.command()
def remove(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Forget a named source. No file is touched, neither there nor in the library.

    Example: mediasync sources remove forge
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> None:
        async with connected("sources remove", coordinator) as (client, _):
            await client.remove_source(name)

    asyncio.run(run())
    if as_json:
        output.print_json({"removed": name})
    else:
        output.line(f"{name} is forgotten; no file was touched")


@app.command()
def test(
    source: NameOrUrl,
    folders: Folders = None,
    profile: Profile = "",
    identity_files: IdentityFiles = None,
    known_hosts: KnownHosts = None,
    accept_new_host_key: AcceptNew = False,
    password_file: PasswordFile = None,
    passphrase_file: PassphraseFile = None,
    engine: EngineName = "",
    config: Config = None,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Connect to a source and say what is there, how fast it can be read, and what a sync would look at. Takes nothing, changes nothing.

    A named source is tested with its own folders and filters; it reads for a second at most to measure the rate.

    Example: mediasync sources test ssh://root@ssh4.vast.ai:12345 --profile vastai
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected
    from mediasync.cli.targets import Wishes, check_source, resolve_test
    from mediasync.paths import display

    wishes = Wishes(
        "",
        folders or (),
        profile,
        identity_files or (),
        known_hosts or (),
        accept_new_host_key,
        password_file=password_file,
        passphrase_file=passphrase_file,
        engine=engine,
    )
    check_source(source, wishes)
    configuration = configure(config)

    async def run() -> SourceReport:
        async with connected("sources test", coordinator) as (client, _):
            spec = await resolve_test(client, source, wishes, configuration, own_file=config is not None)
            return await client.test_source(spec.source, spec.folders, options=spec.options, dest_path=spec.dest_path)

    found = asyncio.run(run())
    if as_json:
        output.print_json(found)
        return
    output.line(f"{output.style('✓', 'green', bold=True)} {output.style('The source answers', bold=True)}")
    shown = [display(folder) for folder in found.folders]
    output.pairs(
        [
            ("path", display(found.root)),
            ("engine", found.engine),
            ("far side", found.platform),
            ("tools", ", ".join(found.tools)),
            ("files", f"{output.count(found.files, 'file')}, {output.size(found.size_bytes)}"),
            ("folders", "\n".join(shown[:20] + ([f"… and {len(shown) - 20} more"] if len(shown) > 20 else []))),
            ("such as", "\n".join(display(name) for name in found.sample)),
            ("round trip", f"{found.round_trip_seconds * 1000:.1f} ms"),
            ("rate", f"{output.size(found.bytes_per_second)}/s over one connection" if found.bytes_per_second else ""),
            ("free there", _free(found.source_free_bytes)),
            ("free here", _free(found.library_free_bytes)),
            ("clock", f"{found.clock_offset_seconds:+.1f} s against ours" if abs(found.clock_offset_seconds) >= 1 else ""),
        ]
    )
    if abs(found.clock_offset_seconds) > _CLOCK_WARN_SECONDS:
        direction = "ahead of" if found.clock_offset_seconds > 0 else "behind"
        output.note(
            f"The far side's clock is {output.span(abs(found.clock_offset_seconds))} {direction} ours. "
            "Nothing is missed for that, but times of files will look wrong: set the clock there."
        )


@app.command()
def trust(
    source: NameOrUrl,
    fingerprint: Annotated[str, typer.Option("--fingerprint", metavar="SHA256:…", help="Trust only a key with this fingerprint.")] = "",
    known_hosts: KnownHosts = None,
    config: Config = None,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Remember a host's SSH key, after comparing its fingerprint with what the host's owner says.

    On a terminal it shows the fingerprint and asks; elsewhere --fingerprint is needed.

    A key that differs from one on record is never taken.

    At the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints the fingerprint.

    Example: mediasync sources trust ssh://user@forge.lan:2222/outputs

    Example: mediasync sources trust forge --fingerprint SHA256:2XwS…
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected
    from mediasync.cli.targets import Wishes, check_source, resolve_source

    if "://" in source and "/" not in source.partition("://")[2]:
        source += "/~"  # only the host is asked, so that the path does not matter
    wishes = Wishes(known_hosts=known_hosts or ())
    check_source(source, wishes)
    configuration = configure(config)

    async def run() -> tuple[HostKey, str, bool]:
        async with connected("sources trust", coordinator) as (client, _):
            place = await resolve_source(client, source, wishes, configuration, own_file=config is not None)
            return await _trust(client, place, fingerprint, as_json)

    key, file, already = asyncio.run(run())
    if as_json:
        output.print_json({**output.plain(key), "trust": "trusted", "known_hosts_file": file, "already_trusted": already})
    elif already:
        output.line(f"{key.host} is trusted already: {key.algorithm} {key.fingerprint}, in {file}")
    else:
        output.line(f"{key.host} is trusted from now on: {key.algorithm} {key.fingerprint}, in {file}")


def _free(free_bytes: int | None) -> str:
    from mediasync.cli import output

    return "" if free_bytes is None else output.size(free_bytes)


async def _trust(client: Client, source: SourceSpec, fingerprint: str, as_json: bool) -> tuple[HostKey, str, bool]:
    """The key, the file that holds it, and whether it was there already."""
    from mediasync.model import HostKeyTrust

    if fingerprint and not fingerprint.startswith("SHA256:"):
        fingerprint = f"SHA256:{fingerprint}"
    key = await client.host_key(source)
    if key.trust is HostKeyTrust.TRUSTED and fingerprint in ("", key.fingerprint):
        return key, key.known_hosts_file, True
    if not fingerprint and key.trust is not HostKeyTrust.CHANGED:  # a changed one is refused by the services, in their words
        _ask(key, as_json)
    return key, await client.trust_host_key(source, fingerprint or key.fingerprint), False


def _ask(key: HostKey, as_json: bool) -> None:
    """Returns when a person says that it is the host's key."""
    import sys

    from mediasync.cli import output
    from mediasync.errors import MediasyncError, Reason

    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"{key.host} shows the {key.algorithm} key {key.fingerprint}; there is nobody to ask whether that is the right one",
            f"Compare it with the host's own, then give it: --fingerprint {key.fingerprint}",
            metadata={"fingerprint": key.fingerprint},
        )
    output.note(f"{key.host} shows the {key.algorithm} key\n  {output.style(key.fingerprint, bold=True, stream=sys.stderr)}")
    output.note("At the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it.")
    if not typer.confirm("Is that the host's key?", err=True):
        raise MediasyncError(Reason.CANCELLED, "nothing was trusted")


def _connection_pairs(source: SourceSpec) -> list[tuple[str, str]]:
    """How a source is reached, for people; what is empty is not shown."""
    from mediasync.model import DockerConnection, Engine, SshConnection

    connection = source.connection
    pairs = [("engine", "" if source.engine is Engine.AUTO else source.engine.value)]
    if isinstance(connection, SshConnection):
        pairs += [
            ("keys", ", ".join(connection.identity_files)),
            ("known hosts", ", ".join(connection.known_hosts_files)),
            ("password", f"in {connection.password_file}" if connection.password_file else ""),
            ("passphrase", f"in {connection.passphrase_file}" if connection.passphrase_file else ""),
        ]
    elif isinstance(connection, DockerConnection):
        pairs += [("Docker host", connection.engine_url)]
    return pairs


def _cleanup(spec: SyncSpec) -> str:
    """When it is cleaned up, and of what, in short."""
    from mediasync.cli.clean_display import why
    from mediasync.model import KeptReason

    if spec.cleanup is None or not spec.cleanup.after_sync:
        return "when it is asked for: `mediasync clean`"
    dry = ", only told (dry_run)" if spec.cleanup.dry_run else ""
    return f"after each sync{dry}; files {why(KeptReason.TOO_YOUNG, spec.cleanup)} stay"


def source_json(source: NamedSource) -> dict[str, Any]:
    """A named source for machines."""
    from mediasync.cli.output import plain

    spec = source.spec
    return {
        "name": source.name,
        "origin": source.origin.value,
        "type": spec.source.type.value,
        "url": spec.source.url,
        "connection": plain(spec.source.connection),
        "root": plain(spec.source.root),
        "engine": spec.source.engine.value,
        "dest_path": spec.dest_path,
        "folders": plain(spec.folders),
        "options": plain(spec.options),
        "cleanup": plain(spec.cleanup),
        "create_time": source.create_time,
    }
