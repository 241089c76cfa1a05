"""Plans of a source that is a real folder, looked at by a real agent."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Sequence

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import AgeBasis, CleanupPlan, CleanupPolicy, Kept, KeptReason, SyncOptions, SyncSpec
from mediasync.model.synced import SyncedFile, SyncedState
from mediasync.sources.base import (
    Connection,
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    ScanFinished,
    ScanRecord,
    ScanRequest,
    SourceProbe,
    Surroundings,
)
from services.cleanup import looking, planning
from services.cleanup.entities import OriginLibrary, PlanRow
from services.cleanup.one_file import plan_file
from services.cleanup.plan_store import PlanStore
from services.cleanup.planning import asked_of, make_plan
from tests.fixtures.cleanup import CleanupPlace


class Planned:
    """A plan, and all that it lists."""

    def __init__(self, plan: CleanupPlan, rows: Sequence[PlanRow]) -> None:
        self.plan = plan
        self.summary = plan.summary
        self.rows = rows
        self.goes = [row.path.decode() for row in rows if row.kept is None]
        self.stays = {row.path.decode(): row.kept for row in rows if row.kept is not None}


async def plan(
    place: CleanupPlace, spec: SyncSpec | None = None, connection: Connection | None = None, library: OriginLibrary | None = None
) -> Planned:
    """Makes a plan, and reads it."""
    plans, chosen = PlanStore(place.database), spec or place.spec()
    async with contextlib.AsyncExitStack() as stack:
        there = connection or await stack.enter_async_context(place.connection())
        plan_id = await make_plan(there, chosen, library or place.origin, place.transfer, plans)
    made = await plans.get(plan_id, asked_of(chosen))
    assert made.summary.files_scanned == made.summary.files_deleted + made.summary.files_kept
    return Planned(made, await plans.page(plan_id, 0, 10_000))


class Told:
    """A connection to a source that says what it is told to say; what it does not know it asks the real one for."""

    def __init__(
        self, records: Sequence[ScanRecord], *, there: Surroundings | None = None, offset: float = 0.0, engine: str = "agent"
    ) -> None:
        self.probe = SourceProbe(engine, "Linux", b"/there", 0.0, offset)
        self.scans = 0
        self._records = records
        self._there = there or Surroundings(10**12, 2 * 10**12)

    async def surroundings(self) -> Surroundings:
        return self._there

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        return []

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        self.scans += 1
        for record in self._records:
            yield record


def told(*records: ScanRecord, started_ns: int | None = None, **how: object) -> Connection:
    """Such a connection. Its scans began long after anybody asked, unless they are told when."""
    return Told([*records, ScanFinished(started_ns if started_ns is not None else 1 << 62, 0, 0)], **how)  # type: ignore[arg-type, return-value]


def folder(path: bytes, *names: bytes, mtime_ns: int = 10**9, more: bool = False) -> DirectoryScanned:
    prefix = path + b"/" if path else b""
    return DirectoryScanned(path, 7, tuple(FileEntry(prefix + name, 5, mtime_ns, mtime_ns, 9) for name in names), complete=True, more=more)


def on_record(place: CleanupPlace, *paths: bytes, state: SyncedState = SyncedState.SYNCED) -> None:
    for path in paths:
        file = planning.SourceFile(path, 5, 10**9, 9)
        place.transfer.records[path] = (file, SyncedFile(state, b"h" * 32, (path,)))


async def test_a_plan_lists_what_would_go_oldest_first_then_what_is_due_and_stays(place: CleanupPlace) -> None:
    place.synced("a/new.png", days=2)
    place.synced("old.png", days=9)
    place.synced("old.txt", days=4)
    place.synced("keep.jpg", days=7)
    place.write("unsynced.png", days=5)
    place.write("young.png", days=0.5)
    spec = place.spec(preserve_patterns=("*.jpg",))
    planned = await plan(place, spec)
    assert planned.goes == ["old.png", "old.txt", "a/new.png"]
    assert [row.joined for row in planned.rows] == [False, True, False, False, False]
    assert planned.stays == {"keep.jpg": KeptReason.PRESERVED, "unsynced.png": KeptReason.NOT_SYNCED}
    assert [row.message for row in planned.rows if row.kept is KeptReason.PRESERVED] == ["it matches *.jpg"]
    assert {row.cause for row in planned.rows if row.kept is None} == {"older than 24 h"}
    summary = planned.summary
    assert (summary.files_scanned, summary.files_deleted, summary.space_freed_bytes, summary.dry_run) == (6, 3, 23, True)
    assert summary.kept[KeptReason.TOO_YOUNG] == Kept(1, 9)
    assert [(item.folder, item.files, item.size_bytes, item.files_kept) for item in planned.plan.folders] == [
        (b"", 2, 14, 3),
        (b"a", 1, 9, 0),
    ]
    assert planned.plan.oldest < planned.plan.newest
    (row,) = [row for row in planned.rows if row.path == b"old.png"]
    known, record = place.transfer.records[b"old.png"]
    assert (row.file, row.sha256, row.copies) == (known, record.sha256, (b"old.png",))


async def test_what_is_no_result_is_counted_as_kept(place: CleanupPlace) -> None:
    """KeptReason.NO_RESULT"""
    place.synced("x.png")
    place.synced("half.tmp")
    place.synced("x.gif")
    (place.source / "link.png").symlink_to("x.png")
    spec = dataclasses.replace(place.spec(), options=SyncOptions(allowed_extensions=("png", "tmp")))
    planned = await plan(place, spec)
    assert planned.goes == ["x.png"]
    assert planned.summary.kept == {KeptReason.NO_RESULT: Kept(3, 0)}


async def test_links_are_not_followed_even_where_the_sync_does(place: CleanupPlace) -> None:
    place.synced("x.png")
    (place.source / "link.png").symlink_to("x.png")
    spec = dataclasses.replace(place.spec(), options=SyncOptions(follow_symlinks=looking.FollowSymlinks.ALL))
    planned = await plan(place, spec)
    assert (planned.goes, planned.summary.kept) == (["x.png"], {KeptReason.NO_RESULT: Kept(1, 0)})


async def test_a_folder_that_cannot_be_listed_is_a_problem_and_counts_as_kept(place: CleanupPlace) -> None:
    """KeptReason.UNREADABLE"""
    planned = await plan(place, connection=told(folder(b"a"), DirectoryUnreadable(b"locked", "Permission denied")))
    assert planned.summary.kept == {KeptReason.UNREADABLE: Kept(1)}
    assert (planned.summary.errors, planned.summary.problems_total) == (1, 1)
    (problem,) = planned.summary.problems
    assert (problem.reason, problem.path) == (Reason.FOLDER_UNREADABLE, b"locked")
    assert "Permission denied" in problem.message


async def test_a_folder_in_pieces_is_judged_as_a_whole_whatever_their_order(place: CleanupPlace) -> None:
    names = [b"ComfyUI_%05d_.png" % number for number in range(10)]
    on_record(place, *names, b"ComfyUI_00003_.txt")
    pieces = [folder(b"", *names[5:], more=True), folder(b"", b"ComfyUI_00003_.txt", *names[:5])]
    planned = await plan(place, place.spec(keep_counter=True), connection=told(*pieces))
    assert sorted(planned.goes) == sorted(name.decode() for name in [*names[:9], b"ComfyUI_00003_.txt"])
    assert planned.stays == {"ComfyUI_00009_.png": KeptReason.COUNTER}
    joined = planned.goes.index("ComfyUI_00003_.txt")
    assert planned.goes[joined - 1] == "ComfyUI_00003_.png"


async def test_a_source_that_names_a_file_twice_or_ends_within_a_folder_is_not_believed(place: CleanupPlace) -> None:
    for records in (
        [folder(b"", b"x", more=True), folder(b"", b"x")],
        [folder(b"", b"x", more=True)],
        [folder(b"", b"x", more=True), folder(b"a", b"x")],
    ):
        with pytest.raises(MediasyncError) as caught:
            await plan(place, connection=told(*records))
        assert caught.value.reason is Reason.SOURCE_PROTOCOL


async def test_the_sources_own_clock_decides_and_one_that_is_far_off_is_told(place: CleanupPlace) -> None:
    now_ns = planning.time.time_ns()
    on_record(place, b"x.png")
    two_days = folder(b"", b"x.png", mtime_ns=now_ns - 2 * 86_400 * 10**9)
    (file,) = two_days.files
    place.transfer.records[b"x.png"] = (
        planning.SourceFile(file.path, file.size_bytes, file.mtime_ns, file.inode),
        place.transfer.records[b"x.png"][1],
    )
    assert (await plan(place, connection=told(two_days))).goes == ["x.png"]
    behind = await plan(place, connection=told(two_days, offset=-86_400 * 1.5))
    assert behind.summary.kept == {KeptReason.TOO_YOUNG: Kept(1, 5)}
    assert behind.summary.notes == ("the source's clock is 36.0 hours behind this machine's; its own is what counts",)
    assert (await plan(place, connection=told(two_days, offset=-86_400 * 3))).summary.kept == {KeptReason.FUTURE: Kept(1, 5)}


async def test_a_clock_that_went_back_since_the_connection_was_made_is_found_out(place: CleanupPlace) -> None:
    now_ns = planning.time.time_ns()
    day_ns = 86_400 * 10**9
    file = folder(b"", b"x.png", mtime_ns=now_ns - 2 * day_ns)
    went_back = told(file, started_ns=now_ns - 3 * day_ns // 2)
    planned = await plan(place, connection=went_back)
    assert planned.summary.kept == {KeptReason.TOO_YOUNG: Kept(1, 5)}
    # Over SFTP nobody says what time it is there.
    on_record(place, b"x.png")
    assert (await plan(place, connection=told(file, started_ns=1, engine="sftp"))).summary.kept == {KeptReason.CHANGED: Kept(1, 5)}


async def test_low_space_is_made_up_for_and_said(place: CleanupPlace) -> None:
    now_ns = planning.time.time_ns()
    hours = [folder(b"%d" % at, b"x.png", mtime_ns=now_ns - (10 - at) * 3600 * 10**9) for at in range(5)]
    for record in hours:
        (file,) = record.files
        known = planning.SourceFile(file.path, file.size_bytes, file.mtime_ns, file.inode)
        place.transfer.records[file.path] = (known, SyncedFile(SyncedState.SYNCED, b"h" * 32, (b"x",)))
    spec = place.spec(min_free_space_gb=1e-9 * 100, target_free_space_gb=1e-9 * 107)
    planned = await plan(place, spec, told(*hours, there=Surroundings(99, 1000)))
    assert planned.goes == ["0/x.png", "1/x.png"]
    assert {row.cause for row in planned.rows} == {"space is low"}
    assert planned.summary.kept == {KeptReason.TOO_YOUNG: Kept(3, 15)}
    assert planned.summary.free_bytes_before == 99
    assert len(planned.summary.notes) == 1
    assert (await plan(place, spec, told(*hours, there=Surroundings(100, 1000)))).goes == []
    unknown = await plan(place, spec, told(*hours, there=Surroundings()))
    assert (unknown.goes, unknown.summary.notes) == (
        [],
        ("how much space is free at the source is not known: `min_free_space` has no effect",),
    )
    scarce = await plan(place, place.spec(min_free_space_gb=1), told(*hours, there=Surroundings(99, 1000)))
    assert len(scarce.goes) == 5
    assert scarce.summary.notes[1:] == ("what may go does not free as much as should be free",)


async def test_age_is_of_the_birth_or_the_last_reading_where_it_is_asked_for(place: CleanupPlace) -> None:
    place.synced("x.png", days=3)
    # It was made just now, whatever its modification time says.
    assert (await plan(place, place.spec(age_basis=AgeBasis.CREATED))).summary.kept == {KeptReason.TOO_YOUNG: Kept(1, 5)}
    status = (place.source / "x.png").stat()
    os.utime(place.source / "x.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert (await plan(place, place.spec(age_basis=AgeBasis.ACCESSED))).goes == ["x.png"]
    os.utime(place.source / "x.png", ns=(planning.time.time_ns(), status.st_mtime_ns))
    assert (await plan(place, place.spec(age_basis=AgeBasis.ACCESSED))).summary.kept == {KeptReason.TOO_YOUNG: Kept(1, 5)}


async def test_a_library_that_has_nothing_of_the_source_is_refused_while_something_is_due(place: CleanupPlace) -> None:
    place.write("x.png", days=0.5)
    nothing = OriginLibrary(str(place.library), "uuid", 0)
    assert (await plan(place, library=nothing)).goes == []
    place.write("x.png", days=2)
    with pytest.raises(MediasyncError) as caught:
        await plan(place, library=nothing)
    assert caught.value.reason is Reason.CLEANUP_NOTHING_SYNCED


async def test_a_source_that_holds_something_else_is_refused_unless_it_is_meant(place: CleanupPlace) -> None:
    for number in range(12):
        place.write(f"{number}.png")
    with pytest.raises(MediasyncError) as caught:
        await plan(place)
    assert caught.value.reason is Reason.CLEANUP_SOURCE_DIFFERENT
    planned = await plan(place, place.spec(force_cap=True))
    assert planned.summary.kept == {KeptReason.NOT_SYNCED: Kept(12, sum(len(f"{number}.png") for number in range(12)))}


async def test_without_a_look_at_the_library_nobody_is_asked(place: CleanupPlace) -> None:
    place.write("x.png")
    place.transfer.wrong = MediasyncError(Reason.SERVICES_UNREACHABLE, "nobody is there")
    planned = await plan(place, place.spec(verify_synced=False, i_mean_it=True), library=OriginLibrary("", ""))
    assert planned.goes == ["x.png"]
    assert (planned.rows[0].sha256, planned.rows[0].copies, planned.summary.trashed) == (b"", (), True)


async def test_a_plan_that_fails_leaves_nothing(place: CleanupPlace) -> None:
    place.synced("x.png")
    place.transfer.wrong = MediasyncError(Reason.SERVICES_UNREACHABLE, "nobody is there")
    with pytest.raises(MediasyncError):
        await plan(place)
    left = await place.database.read(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM plans").scalar())
    assert left == 0
    assert sorted(file.name for file in (place.folder / "home").iterdir() if "due-" in file.name) == []


async def test_folders_are_those_that_were_named_each_once(place: CleanupPlace) -> None:
    for path in ("a/x.png", "a/b/x.png", "c/x.png"):
        place.synced(path)
    spec = dataclasses.replace(place.spec(), folders=(b"a", b"a/b", b"a"))
    assert sorted((await plan(place, spec)).goes) == ["a/b/x.png", "a/x.png"]
    with pytest.raises(MediasyncError) as caught:
        await plan(place, dataclasses.replace(place.spec(), folders=(b"nowhere",)))
    assert caught.value.reason is Reason.SOURCE_FOLDER_MISSING


async def test_folders_that_are_empty_are_noted(place: CleanupPlace) -> None:
    (place.source / "2025-01-01").mkdir()
    place.synced("a/x.png")
    plans = PlanStore(place.database)
    async with place.connection() as connection:
        plan_id = await make_plan(connection, place.spec(), place.origin, place.transfer, plans)
    assert await plans.empty_folders(plan_id) == [b"", b"2025-01-01"]


async def test_more_files_that_stay_than_are_listed_are_counted_and_said(place: CleanupPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_MOST_STAYS", 2)
    monkeypatch.setattr(planning, "_MOST_STAYS", 3)
    on_record(place, *(b"%d.png" % number for number in range(4)), state=SyncedState.EDITED)
    names = [b"%d.png" % number for number in range(4)] + [b"%d.jpg" % number for number in range(4)]
    planned = await plan(place, place.spec(preserve_patterns=("*.jpg",)), told(folder(b"", *sorted(names))))
    assert len(planned.stays) == 3
    assert planned.summary.kept == {KeptReason.PRESERVED: Kept(4, 20), KeptReason.EDITED: Kept(4, 20)}
    assert planned.summary.notes == ("5 more files are old enough and stay; they are counted, and not listed",)


async def test_a_pattern_that_is_none_is_an_error_of_who_asked(place: CleanupPlace) -> None:
    with pytest.raises(MediasyncError) as caught:
        await plan(place, place.spec(preserve_patterns=("[",)))
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_what_plans_are_made_of_is_told_apart(place: CleanupPlace) -> None:
    spec = place.spec()
    assert asked_of(spec) == asked_of(place.spec(plan_id="plan_1", dry_run=True, max_files_per_batch=7))
    others = [place.spec(age_hours=1), dataclasses.replace(spec, folders=(b"a",)), dataclasses.replace(spec, dest_path="/other")]
    assert len({asked_of(other) for other in (spec, *others)}) == 4


@pytest.mark.parametrize(
    ("path", "policy", "kept", "says"),
    [
        ("old.png", {}, None, ""),
        ("old.txt", {}, None, ""),
        ("young.png", {}, KeptReason.TOO_YOUNG, ""),
        ("unsynced.png", {}, KeptReason.NOT_SYNCED, ""),
        ("old.png", {"preserve_patterns": ("*.png",)}, KeptReason.PRESERVED, "*.png"),
        ("young.png", {"preserve_patterns": ("*.png",)}, KeptReason.PRESERVED, "*.png"),
        ("old.txt", {"preserve_patterns": ("*.png",)}, KeptReason.COMPANION, "old.png"),
        ("old.png", {"keep_last": 9}, KeptReason.KEEP_LAST, ""),
        ("half.tmp", {}, KeptReason.NO_RESULT, "unfinished"),
        (".hidden/x.png", {}, KeptReason.NO_RESULT, "hide"),
        ("link.png", {}, KeptReason.NO_RESULT, "link"),
        ("young.png", {"min_free_space_gb": 10**9}, KeptReason.TOO_YOUNG, "space is low"),
        ("old.png", {"max_delete_files": 0}, None, ""),
    ],
)
async def test_one_file_is_explained_by_a_look_at_its_folder(
    place: CleanupPlace, path: str, policy: dict[str, object], kept: KeptReason | None, says: str
) -> None:
    for name in ("old.png", "old.txt", "half.tmp", ".hidden/x.png"):
        place.synced(name)
    place.synced("young.png", days=0.5)
    place.write("unsynced.png")
    (place.source / "link.png").symlink_to("old.png")
    async with place.connection() as connection:
        row = await plan_file(connection, place.spec(**policy), place.origin, place.transfer, path.encode())
    assert row is not None
    assert (row.path, row.kept) == (path.encode(), kept)
    assert says in row.message


async def test_a_file_that_is_not_there_or_lies_behind_a_link_or_elsewhere_is_told_apart(place: CleanupPlace) -> None:
    place.synced("a/x.png")
    place.synced("b/c/x.png")
    (place.source / "linked").symlink_to("a")
    spec = dataclasses.replace(place.spec(), folders=(b"a",))

    async def explained(path: bytes, chosen: SyncSpec, library: OriginLibrary | None = None) -> PlanRow | None:
        async with place.connection() as connection:
            return await plan_file(connection, chosen, library or place.origin, place.transfer, path)

    assert await explained(b"a/gone.png", place.spec()) is None
    assert await explained(b"nowhere/gone.png", place.spec()) is None
    assert await explained(b"linked/x.png", place.spec()) is None
    elsewhere = await explained(b"b/c/x.png", spec)
    assert elsewhere is not None
    assert (elsewhere.kept, elsewhere.message) == (KeptReason.NO_RESULT, "it lies in none of the folders that are cleaned up")
    inside = await explained(b"a/x.png", spec)
    assert inside is not None
    assert (inside.kept, inside.copies) == (None, (b"a/x.png",))
    nowhere = await explained(b"a/x.png", spec, OriginLibrary("", ""))
    assert nowhere is not None
    assert nowhere.kept is KeptReason.NOT_SYNCED
    assert CleanupPolicy() == planning.policy_in(dataclasses.replace(spec, cleanup=None))
