"""`mediasync clean history` and `mediasync clean why`: what was deleted, and why a file is gone or still there."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mediasync.cli.arguments import (
    AcceptNew,
    AsJson,
    Config,
    Coordinator,
    EngineName,
    IdentityFiles,
    KnownHosts,
    PassphraseFile,
    PasswordFile,
    Profile,
)

if TYPE_CHECKING:
    from mediasync.model import CleanupPolicy, Deletion, FileExplanation


def history(
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="Only of this source (its name, or its URL).")] = "",
    since: Annotated[str, typer.Option("--since", metavar="WHEN", help="Only since then: an age such as 7d, or a date.")] = "",
    path: Annotated[str, typer.Option("--path", metavar="PATTERN", help="Only what matches, as in .gitignore.")] = "",
    run: Annotated[str, typer.Option("--job", metavar="ID", help="Only of this clean-up; its job's id or its sync id.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """List what clean-ups deleted, and what they meant to delete and kept; newest first.

    Example: mediasync clean history --source forge --since 7d

    Example: mediasync clean history --path 'txt2img-images/2026-11-21/' --json
    """
    import asyncio
    import contextlib

    from mediasync.cli import output, sync_options
    from mediasync.cli.library_places import moment_ns
    from mediasync.cli.session import configure, connected
    from mediasync.paths import display

    after = moment_ns("--since", since) / 1e9
    if path:
        sync_options.pattern("--path", path)
    named = configure().sources.get(source)
    # A folder that a target names is known to the journal by its URL.
    label = named.source.label if named else source

    async def gather() -> list[Deletion]:
        found: list[Deletion] = []
        async with connected("clean history", coordinator) as (client, _):
            sync_id = (await client.get_job(run)).sync_id if run.startswith("job_") else run
            async with contextlib.aclosing(client.deletions(label, after, path, sync_id)) as entries:
                async for entry in entries:
                    found.append(entry)
                    if len(found) == limit:
                        break
        return found

    entries = asyncio.run(gather())
    if as_json:
        output.print_json({"deletions": [deletion_json(entry) for entry in entries]})
    elif not entries:
        output.note("No clean-up has deleted such files." if source or since or path or run else "No clean-up has deleted anything yet.")
    else:
        output.table(
            ["when", "what", "size", "source", "path", "why"],
            [
                [
                    output.moment(entry.outcome_time or entry.intent_time),
                    entry.outcome.value,
                    output.size(entry.size_bytes),
                    entry.source,
                    display(entry.path),
                    reason_text(entry),
                ]
                for entry in entries
            ],
            right=["size"],
            cut=["why"],
        )


def why(
    source: Annotated[str, typer.Argument(help="A name, or the URL that was synced.", show_default=False)],
    path: Annotated[
        str, typer.Argument(help="The file, relative to the source's path, or in full as the source spells it.", show_default=False)
    ],
    library: Annotated[str, typer.Option("--library", metavar="DIR", help="The library that has the copies, if there are several.")] = "",
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
    """Say why a file is gone from a source, or still there: what is on record of it, and what a clean-up now would do.

    Example: mediasync clean why forge txt2img-images/2026-11-21/00012-1234567.png
    """
    import asyncio
    from dataclasses import replace

    from mediasync.cli import clean_options, clean_work, output
    from mediasync.cli.session import configure, connected
    from mediasync.cli.targets import Wishes, resolve_sync

    wishes = Wishes(
        library,
        (),
        profile,
        identity_files or (),
        known_hosts or (),
        accept_new_host_key,
        password_file=password_file,
        passphrase_file=passphrase_file,
        engine=engine,
    )
    configuration = configure(config)
    clean_work.check(source, wishes, configuration)
    if not path.startswith("/"):
        clean_options.source_path(path, b"")  # a mistake is said before anything is started

    async def ask() -> tuple[bytes, FileExplanation, CleanupPolicy, str]:
        async with connected("clean why", coordinator) as (client, _):
            spec = await resolve_sync(client, source, wishes, configuration, own_file=config is not None, needs_dest=False)
            policy = clean_options.overlay(spec.cleanup, {})
            wanted = clean_options.source_path(path, spec.source.root)
            return wanted, await client.explain_file(replace(spec, cleanup=policy), wanted), policy, spec.source.label

    wanted, explanation, policy, label = asyncio.run(ask())
    if as_json:
        output.print_json(explanation_json(wanted, explanation))
    else:
        print_explanation(wanted, explanation, policy, label)


def reason_text(entry: Deletion) -> str:
    """Why it went, or stayed."""
    from mediasync.cli.clean_display import why_one

    parts = [why_one(entry.kept) if entry.kept else entry.cause, entry.message]
    return "; ".join(part for part in parts if part)


def print_explanation(path: bytes, explanation: FileExplanation, policy: CleanupPolicy, label: str) -> None:
    """Why a file is gone, or still there, for people."""
    from mediasync.cli import output
    from mediasync.model import DeletionOutcome
    from mediasync.paths import display

    output.line(output.style(f"{display(path)} {verdict(explanation, policy, label)}", bold=True))
    last = explanation.deletions[0] if explanation.deletions else None
    rows: list[tuple[str, object]] = []
    if explanation.planned is not None:
        rows += [
            ("size", output.size(explanation.planned.size_bytes)),
            ("age since", output.moment(explanation.planned.age_time)),
            ("because", explanation.planned.message),
        ]
    elif last is not None:
        rows += [("size", output.size(last.size_bytes)), ("modified", output.moment(last.modify_time)), ("sha256", last.sha256.hex())]
    copy = explanation.library_path and os.path.join(os.fsencode(explanation.library_root), explanation.library_path)
    read = ", read back first" if copy and not explanation.present and last and last.outcome is DeletionOutcome.DELETED else ""
    rows.append(("copy", display(copy) + read))
    if last is not None and last.trash_path:
        rows.append(("in the trash", display(last.trash_path)))
    output.pairs(rows)
    for entry in explanation.deletions:
        told = f": {reason_text(entry)}" if reason_text(entry) else ""
        output.line(f"  {output.moment(entry.outcome_time or entry.intent_time)}  {entry.outcome.value}{told}  ({entry.sync_id})")
    if explanation.problem is not None:
        output.line(f"  {output.style('!', 'yellow')} {explanation.problem.message}")
        if explanation.problem.remedy:
            output.line(f"    {output.style('→', 'cyan')} {explanation.problem.remedy}")


def verdict(explanation: FileExplanation, policy: CleanupPolicy, label: str) -> str:
    """What is the matter with the file, behind its name."""
    from mediasync.cli.clean_display import why_one
    from mediasync.model import DeletionOutcome

    last = explanation.deletions[0] if explanation.deletions else None
    if explanation.present is None:
        return f"may be at {label} or not: it cannot be asked"
    if explanation.present:
        if explanation.planned is None:
            return f"is still at {label}"
        if explanation.planned.kept is None:
            if last is not None and last.outcome is DeletionOutcome.KEPT and last.kept is not None and last.kept.wrong:
                return f"is still at {label}: the last clean-up kept it, because {why_one(last.kept, policy)}; the next one tries again"
            return f"is still at {label}; the next clean-up takes it"
        return f"is still at {label}, and stays: {why_one(explanation.planned.kept, policy)}"
    if last is None:
        return f"is not at {label}, and no clean-up of ours took it"
    match last.outcome:
        case DeletionOutcome.DELETED:
            return f"is gone from {label}: a clean-up deleted it"
        case DeletionOutcome.TRASHED:
            return f"is gone from {label}: a clean-up moved it to the trash"
        case DeletionOutcome.VANISHED:
            return f"is gone from {label}: somebody else removed it before a clean-up could"
        case DeletionOutcome.OPEN:
            return f"is gone from {label}: a clean-up that was cut off was about to delete it; the next one writes down what happened"
        case _:
            return f"is gone from {label}: a clean-up had kept it, and somebody else removed it since"


def explanation_json(path: bytes, explanation: FileExplanation) -> dict[str, Any]:
    """The same for machines."""
    from mediasync.cli import clean_display
    from mediasync.paths import display

    problem = explanation.problem
    return {
        "path": display(path),
        "path_base64": base64.b64encode(path).decode("ascii"),
        "present": explanation.present,
        "planned": clean_display.planned_json(explanation.planned) if explanation.planned else None,
        "library": explanation.library_root,
        "library_path": display(explanation.library_path) if explanation.library_path else None,
        "deletions": [deletion_json(entry) for entry in explanation.deletions],
        "problem": {"reason": problem.reason.value, "message": problem.message, "remedy": problem.remedy} if problem else None,
    }


def deletion_json(entry: Deletion) -> dict[str, Any]:
    """An entry of the journal for machines; `path` is for people, `path_base64` holds the exact bytes of the name."""
    from mediasync.cli.output import plain

    fields: dict[str, Any] = plain(entry)
    fields["path_base64"] = base64.b64encode(entry.path).decode("ascii")
    fields["sha256"] = entry.sha256.hex()
    return fields
