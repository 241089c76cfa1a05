"""What a file is, from its first bytes; from its name only where bytes do not tell."""

from __future__ import annotations

HEAD_BYTES = 64

_BY_START = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\x76\x2f\x31\x01", "image/x-exr"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"glTF\x02\0\0\0", "model/gltf-binary"),
)
_BY_BRAND = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
_BY_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BY_EXTENSION = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "csv": "text/csv",
    "flac": "audio/flac",
    "gif": "image/gif",
    "glb": "model/gltf-binary",
    "heic": "image/heic",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jsonl": "application/json",
    "jxl": "image/jxl",
    "log": "text/plain",
    "m4a": "audio/mp4",
    "m4v": "video/mp4",
    "md": "text/markdown",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "png": "image/png",
    "srt": "text/plain",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xmp": "application/rdf+xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
}
_UNKNOWN = "application/octet-stream"
EXAMINED = frozenset(
    {
        "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/tiff", "image/webp",
        "video/mp4", "video/quicktime", "video/webm", "video/x-matroska",
    }
)  # fmt: skip
"""Types whose content is recognised without fail, so that a file that is named so and is not recognised is not what it says."""


def from_content(head: bytes) -> str:
    """The media type that the first HEAD_BYTES of a file show; empty where they do not."""
    for start, media_type in _BY_START:
        if head.startswith(start):
            return media_type
    if head[:4] == b"RIFF":
        return _BY_RIFF.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return _from_brands(head)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "video/quicktime"  # the older form, without ftyp
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in head else "video/x-matroska"
    # Two letters alone are too little: a bitmap also says its own size, and where its pixels start.
    if head[:2] == b"BM" and len(head) >= 26 and head[6:10] == bytes(4) and 14 < int.from_bytes(head[14:18], "little") <= 124:
        return "image/bmp"
    return ""


def from_name(name: bytes) -> str:
    """The media type that a file's extension stands for, or application/octet-stream."""
    stem, dot, extension = name.rpartition(b".")
    return _BY_EXTENSION.get(extension.decode("latin-1").lower(), _UNKNOWN) if dot and stem else _UNKNOWN


def _from_brands(head: bytes) -> str:
    """The major brand, or the first compatible one that is known; an MP4 otherwise."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    for position in (8, *range(16, size - 3, 4)):
        if media_type := _BY_BRAND.get(head[position : position + 4]):
            return media_type
    return "video/mp4"
