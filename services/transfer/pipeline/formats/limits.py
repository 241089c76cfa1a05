"""Bounds on what is taken from one file. Everything in a file is hostile input; these keep any file cheap to look into."""

from __future__ import annotations

MAX_TEXT_BYTES = 8 << 20
"""One text (a chunk, a tag), also after decompression. Workflows with pasted pictures reach a few MiB."""

MAX_TEXTS_BYTES = 24 << 20
"""All texts of a file together."""

MAX_TEXTS = 256
"""Texts of a file."""

MAX_CHUNKS = 1 << 18
"""Chunks, boxes, segments or blocks looked at in a file; a PNG of 200 megapixels in 8 KiB chunks has about 100,000."""

MAX_NESTING = 12
"""Boxes inside boxes."""
