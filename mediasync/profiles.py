"""What each type of source brings: where its results are, and on which port it usually listens.

Folder names are from the generators' own sources: Forge and A1111 write below `outputs`, ComfyUI below `output`, where a
file-name prefix may make any folder, so that everything below the root is taken. `temp/` and `input/` lie beside it, and are
no results where somebody names ComfyUI's own folder as the root.
"""

from __future__ import annotations

from dataclasses import dataclass

from mediasync.model import DockerConnection, Engine, LocalConnection, SourceConnection, SourceType, SshConnection


@dataclass(frozen=True)
class Profile:
    """Defaults of a source type. `roots` are tried in order; no `folders` means everything below the root.

    `not_results` are patterns of what lies beside the results in the program's own folder. They count where that is the root, which is
    told by the root's name: it is none of `results`.
    """

    port: int = 0
    user: str = ""
    roots: tuple[bytes, ...] = ()
    folders: tuple[bytes, ...] = ()
    results: tuple[bytes, ...] = ()
    not_results: tuple[str, ...] = ()


_ENGINES: dict[type, tuple[Engine, ...]] = {
    SshConnection: (Engine.AUTO, Engine.AGENT, Engine.POSIX, Engine.SFTP, Engine.RSYNC),
    DockerConnection: (Engine.AUTO, Engine.AGENT, Engine.POSIX, Engine.ARCHIVE),
    LocalConnection: (Engine.AUTO,),
}


def engines_of(connection: SourceConnection) -> tuple[Engine, ...]:
    """What can list and read at such a place."""
    return _ENGINES[type(connection)]


_FORGE_FOLDERS = (b"txt2img-images", b"img2img-images", b"extras-images", b"txt2img-grids", b"img2img-grids", b"init-images")

_RESULTS = (b"output", b"outputs")
_BESIDE_RESULTS = (
    "/temp/",
    "/input/",
    "/models/",
    "/custom_nodes/",
    "/ComfyUI/temp/",
    "/ComfyUI/input/",
    "/ComfyUI/models/",
    "/ComfyUI/custom_nodes/",
)
"""Of ComfyUI, as the root or right below it: previews, what was uploaded to work on, checkpoints, and nodes with pictures of their own."""

PROFILES: dict[SourceType, Profile] = {
    SourceType.SSH: Profile(),
    SourceType.DOCKER: Profile(),
    SourceType.LOCAL: Profile(),
    SourceType.FORGE: Profile(
        port=2222,
        roots=(
            b"~/stable-diffusion-webui-forge/outputs",
            b"/app/outputs",
            b"/workspace/stable-diffusion-webui-forge/outputs",
            b"~/stable-diffusion-webui/outputs",
            b"/outputs",
        ),
        folders=_FORGE_FOLDERS,
    ),
    SourceType.COMFYUI: Profile(
        port=2222,
        roots=(b"~/ComfyUI/output", b"/app/ComfyUI/output", b"/workspace/ComfyUI/output", b"/output"),
        results=_RESULTS,
        not_results=_BESIDE_RESULTS,
    ),
    SourceType.VASTAI: Profile(
        user="root",
        roots=(
            b"/workspace/ComfyUI/output",
            b"/workspace/stable-diffusion-webui-forge/outputs",
            b"/workspace/stable-diffusion-webui/outputs",
        ),
        results=_RESULTS,
        not_results=_BESIDE_RESULTS,
    ),
}
