"""Which clean-up policy counts for a source or target, and when it is begun by itself."""

from __future__ import annotations

import pytest

from mediasync.model import AgeBasis, CleanupPolicy, LocalConnection
from tests.fixtures.configuration import Configured, Refused

AFTER = CleanupPolicy(after_sync=True)


def test_sources_of_the_file_are_cleaned_up_after_a_sync_unless_it_says_otherwise(configured: Configured) -> None:
    sources = configured(
        """
        sources:
          a: {type: forge, host: h}
          b: {type: forge, host: h, enable_cleanup: false}
          c: {type: forge, host: h, cleanup: {enabled: no}}
        """
    ).sources
    assert [spec.cleanup for spec in sources.values()] == [AFTER, CleanupPolicy(), CleanupPolicy()]


def test_for_each_key_the_nearest_place_counts(configured: Configured) -> None:
    configuration = configured(
        """
        sync:
          cleanup_age_hours: 12
          cleanup: {keep_last: 5, age_basis: created}
        sources:
          a: {type: forge, host: h, cleanup: {keep_last: 1, preserve_patterns: "*.keep"}}
          b: {type: forge, host: h, cleanup_dry_run: false}
        cleanup: {dry_run: true, age_hours: 1, trash_days: 3}
        """
    )
    every = {"after_sync": True, "age_hours": 12, "age_basis": AgeBasis.CREATED, "trash_days": 3}
    assert configuration.sources["a"].cleanup == CleanupPolicy(keep_last=1, preserve_patterns=("*.keep",), dry_run=True, **every)  # type: ignore[arg-type]
    assert configuration.sources["b"].cleanup == CleanupPolicy(keep_last=5, dry_run=False, **every)  # type: ignore[arg-type]
    assert configuration.not_yet == ()
    shown = {setting.key: (setting.value, setting.origin) for setting in configuration.settings}
    assert shown["sources.a.cleanup.enabled"] == (True, "default")
    assert shown["sources.b.cleanup.age_hours"] == (12, "sync.cleanup_age_hours")


def test_the_older_section_is_read_as_it_is(configured: Configured) -> None:
    configuration = configured(
        """
        cleanup:
          schedule: "0 3 * * *"
          dry_run: true
          verify_synced: true
          targets: [{name: forge_local, path: /media, age_hours: 48, preserve_patterns: '*.keep'}]
        """
    )
    assert configuration.not_yet == ()
    spec = configuration.sources["forge_local"]
    assert (spec.source.connection, spec.source.root, spec.source.key, spec.dest_path) == (
        LocalConnection(),
        b"/media",
        "file:///media",
        "",
    )
    assert spec.cleanup == CleanupPolicy(after_sync=True, dry_run=True, age_hours=48, preserve_patterns=("*.keep",))
    assert configuration.cleanup_schedules == {"forge_local": ("forge_local", "0 3 * * *", spec)}


def test_what_a_target_keeps_the_clean_up_after_a_sync_of_its_source_keeps_too(configured: Configured) -> None:
    text = """
        sources:
          forge: {type: forge, host: h, folders: [a, b], cleanup: {keep_last: 4}}
        cleanup:
          schedule: "@daily"
          targets: %s
        """
    configuration = configured(text % "[{name: nightly, source: forge, preserve_patterns: '*.keep'}]")
    policy = CleanupPolicy(after_sync=True, keep_last=4, preserve_patterns=("*.keep",))
    assert list(configuration.sources) == ["forge"]
    assert configuration.sources["forge"].cleanup == policy
    assert configuration.cleanup_schedules == {"nightly": ("forge", "@daily", configuration.sources["forge"])}
    # About some folders only, each at its times and none after a sync; the sync itself is of all folders.
    configuration = configured(text % "[{name: x, source: forge, folders: a, keep_last: 9}, {name: forge, schedule: every 2h}]")
    assert configuration.sources["forge"].folders == (b"a", b"b")
    assert configuration.sources["forge"].cleanup is not None
    assert not configuration.sources["forge"].cleanup.after_sync
    found = {name: (times, spec.folders, spec.cleanup) for name, (_, times, spec) in configuration.cleanup_schedules.items()}
    assert found == {
        "x": ("@daily", (b"a",), CleanupPolicy(after_sync=True, keep_last=9)),
        "forge": ("every 2h", (b"a", b"b"), CleanupPolicy(after_sync=True, keep_last=4)),
    }


def test_times_count_for_syncs_and_clean_ups_each(configured: Configured) -> None:
    configuration = configured(
        """
        sync: {schedule: every 15m, cleanup: {schedule: "@hourly"}}
        sources:
          a: {type: forge, host: h, schedule: "30 3 * * mon-fri"}
          b: {type: forge, host: h, schedule: off, cleanup: {schedule: off}}
          c: {type: forge, host: h, enable_cleanup: false}
        """
    )
    assert configuration.sync_schedules == {"a": "30 3 * * mon-fri", "c": "every 15m"}
    assert {name: times for name, (_, times, _) in configuration.cleanup_schedules.items()} == {"a": "@hourly"}
    # Without targets the section's times at the top are those of all sources.
    configuration = configured("sources: {a: {type: forge, host: h}}\ncleanup: {schedule: '@weekly'}")
    assert configuration.cleanup_schedules == {"a": ("a", "@weekly", configuration.sources["a"])}


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("cleanup: {targets: [{name: a}]}", "cleanup.targets[1].path", "missing; say a folder of this machine, or a `source`"),
        ("cleanup: {targets: [{name: a, source: b}]}", "cleanup.targets[1].source", "there is no source `b` here"),
        ("cleanup: {targets: [{name: a, path: /x, source: b}]}", "cleanup.targets[1].source", "is where `path` would be; keep one of them"),
        (
            "cleanup: {targets: [{name: a, path: /x}, {name: a, path: /y}]}",
            "cleanup.targets[2].name",
            "another target has this name already; choose another",
        ),
        (
            "sources: {a: {type: forge, host: h}}\ncleanup: {targets: [{name: a, path: /x}]}",
            "cleanup.targets[1].name",
            "a source has this name; choose another, or write `source:` in place of `path`",
        ),
        (
            "sources: {a: {type: forge, host: h, cleanup: {verify_synced: false}}}",
            "sources.a.cleanup.verify_synced",
            "false deletes what the library may not have; write `i_mean_it: true` beside it if that is no mistake",
        ),
        (
            "sync: {cleanup: {target_free_space_gb: 5}}\nsources: {a: {type: forge, host: h}, b: {type: forge, host: h}}",
            "sync.cleanup.target_free_space_gb",
            "says until when; min_free_space_gb, which says from when on, is missing",
        ),
        (
            "sources: {a: {type: forge, host: h, schedule: every 5 minutes}}",
            "sources.a.schedule",
            "expected five fields of cron such as `30 3 * * *`, @hourly, @daily, @weekly, or `every 15m`",
        ),
        ("cleanup: {max_delete_share: 2}", "cleanup.max_delete_share", 'expected a number from 0 to 1, found "2"'),
        (
            "cleanup: {preserve_patterns: '['}",
            "cleanup.preserve_patterns[1]",
            "'[' is no pattern: a `[` has no `]` (write `\\[` for the character itself)",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(refused: Refused, text: str, key: str, said: str) -> None:
    found = {violation.field: violation.description.split(": ", 1)[1] for violation in refused(text).fields}
    assert found == {key: said}
