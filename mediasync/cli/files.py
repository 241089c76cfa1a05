"""`mediasync files`: what the catalog knows of the library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mediasync.cli.arguments import AsJson, Coordinator

if TYPE_CHECKING:
    from mediasync.model import CatalogFile

app = typer.Typer(help="Files in the library, from the catalog.", no_args_is_help=True)


@app.command("list")
def list_(
    sync_id: Annotated[str, typer.Option("--sync-id", metavar="ID", help="Only files that this sync brought.")] = "",
    prefix: Annotated[str, typer.Option("--prefix", metavar="PATH", help="Only files whose path in the library starts so.")] = "",
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="Only files of this source (its name, or its URL).")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """List files of the library, newest first.

    Example: mediasync files list --prefix txt2img-images/2026-11-21 --limit 20
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure
    from mediasync.paths import display

    configure()
    files = asyncio.run(_list(sync_id, os.fsencode(prefix), source, limit, coordinator))
    if as_json:
        output.print_json({"files": [file_json(file) for file in files]})
    elif not files:
        output.note("The catalog has no such files.")
    else:
        output.table(
            ["path", "size", "pixels", "model", "seed", "prompt"],
            [
                [
                    display(file.library_path),
                    output.size(file.size_bytes),
                    f"{file.width}x{file.height}" if file.width else "",
                    _short(file.metadata.model, 28) if file.metadata else "",
                    file.metadata.seed if file.metadata and file.metadata.seed is not None else "",
                    _short(file.metadata.prompt, 48) if file.metadata else "",
                ]
                for file in files
            ],
            right=["size", "seed"],
            cut=["prompt"],
        )


@app.command()
def show(
    path: Annotated[str, typer.Argument(help="Where it is, relative to the library's folder.")],
    library: Annotated[str, typer.Option("--library", metavar="FOLDER", help="The library's folder, where there are several.")] = "",
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Show everything that is known of one file: prompt, seed, model, hash, where it came from.

    Example: mediasync files show txt2img-images/2026-11-21/00012-1234567.png
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure
    from mediasync.paths import display

    configure()
    root = os.path.abspath(os.path.expanduser(library)) if library else ""
    file = asyncio.run(_get(os.fsencode(path), root, coordinator))
    if as_json:
        output.print_json(file_json(file))
        return
    output.pairs(
        [
            ("path", display(file.library_path)),
            ("library", file.library_root),
            ("source", file.source),
            ("source path", display(file.source_path)),
            ("size", f"{output.size(file.size_bytes)} ({file.size_bytes:,} bytes)"),
            ("sha256", file.sha256),
            ("type", file.media_type),
            ("pixels", f"{file.width}x{file.height}" if file.width else ""),
            ("modified", output.moment(file.modify_time)),
            ("synced", output.moment(file.sync_time)),
            ("sync", file.sync_id),
            ("deleted at source", output.moment(file.source_delete_time)),
            ("incomplete", "its format's end was missing when it was taken" if file.incomplete else ""),
            ("damaged", file.invalid.message if file.invalid else ""),
        ]
    )
    if file.metadata:
        meta = file.metadata
        output.pairs(
            [
                ("generator", _safe(f"{meta.generator} {meta.generator_version}".strip())),
                ("prompt", _safe(meta.prompt)),
                ("negative prompt", _safe(meta.negative_prompt)),
                ("model", _safe(f"{meta.model} [{meta.model_hash}]" if meta.model_hash else meta.model)),
                ("seed", meta.seed),
                ("sampler", _safe(f"{meta.sampler} {meta.scheduler}".strip())),
                ("steps", meta.steps),
                ("cfg scale", meta.cfg_scale),
                ("loras", _safe(", ".join(meta.loras))),
                *((_safe(name), _safe(value)) for name, value in meta.fields),
            ]
        )


def file_json(file: CatalogFile) -> dict[str, Any]:
    """A file for machines. `library_path` is for people, `library_path_base64` holds the exact bytes of the name."""
    import base64

    from mediasync.cli.output import plain

    fields: dict[str, Any] = plain(file)
    fields["library_path_base64"] = base64.b64encode(file.library_path).decode("ascii")
    if file.metadata:
        fields["metadata"]["fields"] = dict(file.metadata.fields)
        for name in ("prompt_json", "workflow_json"):
            fields["metadata"][name] = getattr(file.metadata, name).decode("utf-8", "replace")
    return fields


def _short(text: str, length: int) -> str:
    text = _safe(" ".join(text.split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def _safe(text: str) -> str:
    """A file's own words, unable to move the cursor; line breaks stay."""
    from mediasync.paths import display

    return "\n".join(display(line.encode("utf-8", "replace")) for line in text.splitlines())


async def _list(sync_id: str, prefix: bytes, source: str, limit: int, coordinator: str) -> list[CatalogFile]:
    from contextlib import aclosing

    from mediasync.cli.session import connected

    files: list[CatalogFile] = []
    async with connected("files list", coordinator) as (client, _), aclosing(client.list_files(sync_id, prefix, source)) as found:
        async for file in found:
            files.append(file)
            if len(files) == limit:
                break
    return files


async def _get(path: bytes, library: str, coordinator: str) -> CatalogFile:
    from mediasync.cli.session import connected

    async with connected("files show", coordinator) as (client, _):
        return await client.get_file(path, library)
