"""A clean-up with every service, over a real SSH server: what goes, what stays, and what each of them remembers."""

from __future__ import annotations

import os

from tests.fixtures.installation import Installation
from tests.fixtures.media import png, text_chunk

PICTURES = [f"txt2img/{number:05}-{number}.png" for number in range(12)]
DAMAGED = PICTURES[3]


def test_a_source_is_emptied_of_what_the_library_has(installation: Installation) -> None:
    for path in PICTURES:
        installation.write(path, png(text_chunk("name", path)))
    with installation.up():
        assert installation.sync().code == 0
        before = installation.hashes(installation.library)
        installation.write("txt2img/00099-new.png")
        # A bit that the disk lost: as large as before, and of the same time.
        copy = installation.library / DAMAGED
        status = copy.stat()
        raw = bytearray(copy.read_bytes())
        raw[-20] ^= 1
        copy.write_bytes(raw)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        target = (installation.url, *installation.login, "--library", str(installation.library))

        dry = installation.run("clean", *target, "--dry-run", "--json")
        assert (dry.code, dry.json["files_deleted"], dry.json["dry_run"]) == (0, 12, True), dry.err
        assert len(installation.hashes(installation.source)) == 13

        cleaned = installation.run("clean", *target, "--yes", "--json")
        assert cleaned.code == 1, cleaned.out + cleaned.err
        summary = cleaned.json
        assert (summary["files_deleted"], summary["errors"], summary["dry_run"]) == (11, 1, False)
        assert summary["kept_by_reason"] == {"copy_corrupt": 1, "counter": 1}
        assert summary["files_scanned"] == summary["files_deleted"] + summary["files_kept"] == 13

        # What is known of a file that is gone, of one that is not, and to the next sync.
        gone = installation.run("clean", "why", *target, PICTURES[0], "--json")
        assert gone.json["deletions"][0]["outcome"] == "deleted", gone.err
        assert gone.json["present"] is False
        synced = installation.sync()
        assert synced.json["files_transferred"] == 1
    assert sorted(installation.hashes(installation.source)) == [DAMAGED.encode(), b"txt2img/00099-new.png"]
    after = installation.hashes(installation.library)
    assert {path: after[path] for path in before if path != DAMAGED.encode()} == {
        path: digest for path, digest in before.items() if path != DAMAGED.encode()
    }
