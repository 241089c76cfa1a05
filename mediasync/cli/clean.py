"""`mediasync clean`: delete at a source what the library has, and say why a file is gone or still there.

`mediasync clean SOURCE` stands beside `clean history` and `clean why`: what is none of these names is a source. One that is called as
they are is reached by `mediasync clean -- history`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from mediasync.cli import clean_history
from mediasync.cli.arguments import (
    LIBRARY,
    AcceptNew,
    AsJson,
    Config,
    Coordinator,
    EngineName,
    Folders,
    IdentityFiles,
    KnownHosts,
    PassphraseFile,
    PasswordFile,
    Profile,
)

if TYPE_CHECKING:
    pass

WHAT = "What may go"


class CleanGroup(typer.core.TyperGroup):
    """`clean` with its further commands, and the command itself for everything that is none of these."""

    @property
    def itself(self) -> Any:
        """The command that cleans up."""
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command("clean")(clean)
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """For a further command, and for a shell that completes one, as for any group; else for the command itself."""
        completing = not args and extra.get("resilient_parsing")
        if not completing and (not args or args[0] not in self.commands):
            return self.itself.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The further commands, and the options of the command itself."""
        ours = super().shell_complete(ctx, incomplete)
        known = {item.value for item in ours}
        return [*ours, *(item for item in self.itself.shell_complete(ctx, incomplete) if item.value not in known)]


def clean(
    source: Annotated[
        str,
        typer.Argument(
            help=r"A name from the configuration or `sources add`, or ssh://\[user@]host\[:port]/path, "
            r"docker://\[context@]container/path, or a folder, as it was synced.",
            show_default=False,
        ),
    ],
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Only files that old, such as 90m, 24h or 7d; default: 24h.", rich_help_panel=WHAT
        ),
    ] = "",
    basis: Annotated[
        str,
        typer.Option(
            "--basis", metavar="created|modified|accessed", help="Which time is a file's age; default: modified.", rich_help_panel=WHAT
        ),
    ] = "",
    folders: Folders = None,
    free_to: Annotated[
        str,
        typer.Option(
            "--free-to",
            metavar="AMOUNT",
            help="Where less is free there, such as 50GB or 20%, the oldest go whatever their age, until it is.",
            rich_help_panel=WHAT,
        ),
    ] = "",
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", help="Keep the newest N of each folder.", rich_help_panel=WHAT)
    ] = None,
    preserve: Annotated[
        list[str] | None,
        typer.Option(
            "--preserve",
            metavar="PATTERN",
            help="Keep what matches, as in .gitignore, besides what the source's own preserve; repeatable.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    extensions: Annotated[
        list[str] | None,
        typer.Option("--ext", metavar="EXT", help="Only files that end so, such as png,webp; repeatable.", rich_help_panel=WHAT),
    ] = None,
    min_size: Annotated[
        str, typer.Option("--min-size", metavar="SIZE", help="No smaller files; such as 10kB or 1.5MB.", rich_help_panel=WHAT)
    ] = "",
    culled: Annotated[
        bool, typer.Option("--culled", help="Also what you deleted in the library, of which there is no copy then.", rich_help_panel=WHAT)
    ] = False,
    force_cap: Annotated[
        bool,
        typer.Option(
            "--force-cap",
            help="Without the limits of 10,000 files and nine tenths of what is there, and though hardly anything is as it was synced.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Delete nothing: list what would go, and what stays for which reason.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="With --yes: print the job's id and return; the job goes on.")] = False,
    library: Annotated[
        str,
        typer.Option(
            "--library",
            metavar="DIR",
            help="The library that has the copies. Default: the source's own; for a URL MEDIA_BASE.",
            rich_help_panel=LIBRARY,
        ),
    ] = "",
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
    """Delete at SOURCE what the library has.

    A file goes only when its copy in the library was just read back from the disk with the right hash, and it is unchanged at the source.
    On a terminal the plan is shown first, then a question; elsewhere --yes or --dry-run is needed.

    See also `mediasync clean history` (what was deleted) and `mediasync clean why SOURCE PATH` (why a file is gone, or still there).

    Example: mediasync clean forge

    Example: mediasync clean forge --older-than 7d --keep-last 20 --preserve 'favourites/' --yes

    Example: mediasync clean ssh://root@ssh4.vast.ai:12345/workspace/ComfyUI/output --library ~/Pictures/generated --free-to 50GB

    Example: mediasync clean forge --dry-run --json
    """
    import asyncio

    from mediasync.cli import clean_options, clean_work
    from mediasync.cli.session import configure
    from mediasync.cli.sync_options import wrong
    from mediasync.cli.targets import Wishes

    if dry_run and (yes or detach):
        raise wrong("--dry-run", f"--dry-run deletes nothing, so it does not go with {'--yes' if yes else '--detach'}")
    if detach and not yes:
        raise wrong("--detach", "--detach asks nobody, so it needs --yes")
    policy = clean_options.given(
        older_than=older_than,
        basis=basis,
        free_to=free_to,
        keep_last=keep_last,
        preserve=preserve or (),
        extensions=extensions or (),
        min_size=min_size,
        culled=culled,
        force_cap=force_cap,
        dry_run=dry_run,
    )
    wishes = Wishes(
        library,
        folders or (),
        profile,
        identity_files or (),
        known_hosts or (),
        accept_new_host_key,
        password_file=password_file,
        passphrase_file=passphrase_file,
        engine=engine,
    )
    if not (dry_run or yes):
        clean_work.check_somebody_to_ask(as_json)
    configuration = configure(config)
    clean_work.check(source, wishes, configuration)  # a mistake is said before anything is started
    work = clean_work.Work(source, wishes, policy, configuration, config is not None, coordinator, as_json)
    code = asyncio.run(work.preview() if dry_run else work.clean(yes=yes, detach=detach))
    if code:
        raise typer.Exit(code)


app = typer.Typer(cls=CleanGroup, help="Delete at a source what the library has.")
app.command("history")(clean_history.history)
app.command("why")(clean_history.why)
