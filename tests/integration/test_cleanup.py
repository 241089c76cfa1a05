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


def test_a_sync_of_a_source_of_the_file_ends_with_a_clean_up(installation: Installation) -> None:
    for path in PICTURES:
        installation.write(path, png(text_chunk("name", path)))
    config = installation.folder / "config.yaml"
    server = f"identity_file: {installation.server.identity_file}, known_hosts: {installation.server.known_hosts}"
    config.write_text(
        f"sources:\n  forge: {{url: {installation.url}, destination: {installation.library}, {server}, cleanup: {{keep_last: 3}}}}\n"
        f"cleanup: {{targets: [{{name: disk, path: {installation.folder}, schedule: '@daily'}}]}}\n"
    )
    # No services run: the one that cleans up is started when the sync comes to it.
    synced = installation.run("sync", "forge", "--json", MEDIASYNC_CONFIG=str(config))
    assert synced.code == 0, synced.out + synced.err
    assert (synced.json["state"], synced.json["files_transferred"]) == ("complete", 12)
    assert synced.json["cleanup"]["files_deleted"] == 9, synced.out
    assert synced.json["cleanup"]["kept_by_reason"] == {"keep_last": 3}
    assert len(installation.hashes(installation.library)) == 12
    assert sorted(installation.hashes(installation.source)) == [path.encode() for path in PICTURES[-3:]]
    schedules = installation.run("schedules", "list", "--json", MEDIASYNC_CONFIG=str(config))
    assert "cleanup:disk" in schedules.out
