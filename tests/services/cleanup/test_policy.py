"""What a policy makes of files, as properties that hold whatever the files, the policy and the clock are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.model import AgeBasis, CleanupPolicy, Kept, KeptReason
from mediasync.model.synced import SyncedFile, SyncedState
from mediasync.sources.base import MOST_JOINED
from services.cleanup.choosing import Chooser, cap_of, on_record, shortage
from services.cleanup.companions import Companions
from services.cleanup.numbering import numbered
from services.cleanup.policy import FolderFiles, Terms, ages, judge, young

NOW = 1_795_000_000 * 10**9
HOUR = 3600 * 10**9
MINUTE = 60 * 10**9
GOOD = SyncedFile(SyncedState.SYNCED, b"x" * 32, (b"copy",))


@dataclass(frozen=True)
class File:
    """A file of a made-up source: its folder and name, its size, and how many minutes ago it was modified."""

    path: bytes
    size: int = 10
    minutes: float = 60 * 48
    record: SyncedFile = GOOD

    @property
    def mtime_ns(self) -> int:
        return NOW - int(self.minutes * MINUTE)


@dataclass
class Decided:
    """Why each file is kept; None for those that go."""

    reasons: dict[bytes, KeptReason | None]
    counted: Counter[KeptReason]

    @property
    def gone(self) -> set[bytes]:
        return {path for path, reason in self.reasons.items() if reason is None}


def folders_of(files: list[File]) -> list[FolderFiles]:
    """The files as a source lists them."""
    found: dict[bytes, dict[bytes, File]] = {}
    for file in files:
        folder, _, name = file.path.rpartition(b"/")
        found.setdefault(folder, {})[name] = file
    result = []
    for folder, named in sorted(found.items()):
        listed = [named[name] for name in sorted(named)]
        times = [file.mtime_ns for file in listed]
        result.append(FolderFiles(folder, sorted(named), [file.size for file in listed], times, times, NOW))
    return result


def decide(files: list[File], policy: CleanupPolicy, *, now_ns: int = NOW, shortage_bytes: int = 0) -> Decided:
    """What a whole plan decides, by the same parts that plans are made of."""
    terms = Terms.at(policy, now_ns, space_is_low=shortage_bytes > 0)
    records = {file.path: file.record for file in files}
    counted: Counter[KeptReason] = Counter()
    reasons: dict[bytes, KeptReason | None] = {}
    groups = []
    for folder in folders_of(files):
        folder.looked_ns = now_ns
        judgement = judge(folder, terms)
        counted.update({reason: kept.files for reason, kept in judgement.kept.items()})
        groups += [(group.age_ns, folder.path_of(group.places[0]), group, folder) for group in judgement.groups]
        inside = {place for group in judgement.groups for place in group.places}
        stays = {stay.place: stay.reason for stay in judgement.stays}
        for place in range(len(folder.names)):
            if place not in inside:
                why = young(folder, place, terms)
                reasons[folder.path_of(place)] = stays[place] if place in stays else why[0] if why else KeptReason.UNKNOWN
    chooser = Chooser(policy, len(files), shortage_bytes)
    for _, _, group, folder in sorted(groups, key=lambda item: item[:2]):
        paths = [folder.path_of(place) for place in group.places]
        too_young = [folder.ages[place] > terms.due_ns for place in group.places] if group.extra else None
        chosen = chooser.choose([folder.sizes[place] for place in group.places], [records[path] for path in paths], too_young)
        reasons.update(zip(paths, chosen, strict=True))
        counted.update(reason for reason in chosen if reason is not None)
    return Decided(reasons, counted)


STEMS = st.sampled_from([b"ComfyUI_00001_", b"ComfyUI_00010_", b"P_00001", b"P_00002", b"00003-77", b"grid-0004", b"x", b"a.b"])
ENDINGS = st.sampled_from([b".png", b".jpg", b".mp4", b".webm", b"-audio.mp4", b".txt", b".json", b".png.json", b".PNG", b""])
PATHS = st.builds(lambda folder, stem, ending: folder + stem + ending, st.sampled_from([b"", b"a/", b"a/2026-11-20/"]), STEMS, ENDINGS)
RECORDS = st.sampled_from(
    [GOOD] * 6
    + [SyncedFile(state, b"y" * 32) for state in SyncedState]
    + [SyncedFile(SyncedState.SYNCED, b"", (b"copy",)), SyncedFile(SyncedState.SYNCED, b"y" * 32)]
)
MINUTES = st.one_of(st.integers(-200, 60 * 60), st.sampled_from([0, 5, 60, 24 * 60, 24 * 60 + 1]))
FILES = st.lists(st.builds(File, PATHS, st.integers(0, 50), MINUTES, RECORDS), max_size=16, unique_by=lambda file: file.path)
POLICIES = st.builds(
    CleanupPolicy,
    age_hours=st.sampled_from([0.0, 1.0, 24.0, 30.0]),
    preserve_recent_minutes=st.sampled_from([0.0, 5.0, 90.0]),
    preserve_patterns=st.sampled_from([(), ("*.txt",), ("a/", "!*.png")]),
    exclude_patterns=st.sampled_from([(), ("*.json",), ("/x*",)]),
    allowed_extensions=st.sampled_from([(), ("png",), ("mp4", "PNG")]),
    min_size_bytes=st.sampled_from([0, 5]),
    keep_last=st.integers(0, 3),
    keep_counter=st.booleans(),
    max_delete_files=st.sampled_from([0, 1, 3, 10_000]),
    max_delete_share=st.sampled_from([0.0, 0.5, 1.0]),
    force_cap=st.booleans(),
    clean_culled=st.booleans(),
    min_age_minutes=st.sampled_from([60.0, 10.0]),
)
SHORTAGES = st.sampled_from([0, 0, 25, 10**9])


@given(FILES, POLICIES, SHORTAGES)
def test_each_file_is_counted_once_and_goes_or_is_kept_for_one_reason(files: list[File], policy: CleanupPolicy, low: int) -> None:
    decided = decide(files, policy, shortage_bytes=low)
    assert set(decided.reasons) == {file.path for file in files}
    assert decided.counted + Counter() == Counter(reason for reason in decided.reasons.values() if reason is not None)
    assert KeptReason.UNKNOWN not in decided.counted


@given(FILES, POLICIES, SHORTAGES)
def test_what_is_younger_than_asked_never_goes_unless_it_belongs_to_something_older(
    files: list[File], policy: CleanupPolicy, low: int
) -> None:
    gone = decide(files, policy, shortage_bytes=low).gone
    hours = min(policy.age_hours, policy.min_age_minutes / 60) if low else policy.age_hours
    for folder in folders_of(files):
        companions = Companions(folder.names)
        for place, mtime_ns in enumerate(folder.modified):
            if folder.path_of(place) in gone:
                assert mtime_ns <= NOW - policy.preserve_recent_minutes * MINUTE
                if place in companions.group_of(place).mains:
                    assert mtime_ns <= NOW - hours * HOUR


@given(FILES, POLICIES, SHORTAGES)
def test_never_half_a_group_goes(files: list[File], policy: CleanupPolicy, low: int) -> None:
    gone = decide(files, policy, shortage_bytes=low).gone
    for folder in folders_of(files):
        companions = Companions(folder.names)
        for place in range(len(folder.names)):
            assert len({folder.path_of(member) in gone for member in companions.group_of(place).places}) == 1


@given(FILES, POLICIES, SHORTAGES)
def test_i8_no_more_goes_than_the_cap_says(files: list[File], policy: CleanupPolicy, low: int) -> None:
    gone = decide(files, policy, shortage_bytes=low).gone
    if not policy.force_cap:
        assert len(gone) <= policy.max_delete_files
        assert len(gone) - 1 < policy.max_delete_share * len(files) or not gone


@given(FILES, POLICIES, SHORTAGES)
def test_what_goes_is_on_record_as_it_is_and_has_a_copy_or_was_culled_and_may_go(
    files: list[File], policy: CleanupPolicy, low: int
) -> None:
    gone = decide(files, policy, shortage_bytes=low).gone
    for file in files:
        if file.path in gone:
            assert len(file.record.sha256) == 32
            culled = file.record.state is SyncedState.CULLED and policy.clean_culled
            assert culled or (file.record.state is SyncedState.SYNCED and file.record.copies)


@given(FILES, POLICIES, SHORTAGES)
def test_the_highest_number_of_each_series_is_left_and_so_are_the_newest(files: list[File], policy: CleanupPolicy, low: int) -> None:
    gone = decide(files, policy, shortage_bytes=low).gone
    if policy.keep_counter:
        highest: dict[tuple[bytes, bytes], tuple[int, bool]] = {}
        for file in files:
            folder, _, name = file.path.rpartition(b"/")
            if (series := numbered(name)) is not None:
                key = folder, series[0]
                highest[key] = max(highest.get(key, (-1, False)), (series[1], file.path not in gone))
        assert all(left for _, left in highest.values())
    for folder in folders_of(files):
        left = [place for place in range(len(folder.names)) if folder.path_of(place) not in gone]
        groups = {Companions(folder.names).group_of(place).places for place in range(len(folder.names))}
        assert len({Companions(folder.names).group_of(place).places for place in left}) >= min(policy.keep_last, len(groups))


@given(FILES, POLICIES, st.sampled_from([0.5, 1.0, 10.0, 24.0, 100.0]))
def test_a_greater_age_never_lets_go_what_a_smaller_one_keeps(files: list[File], policy: CleanupPolicy, more_hours: float) -> None:
    older = replace(policy, age_hours=policy.age_hours + more_hours)
    assert decide(files, older).gone <= decide(files, policy).gone


@given(FILES, POLICIES, st.integers(-(10**6), 10**6))
def test_a_clock_that_jumps_back_lets_nothing_go_that_it_kept_and_forward_only_what_is_that_old(
    files: list[File], policy: CleanupPolicy, minutes: int
) -> None:
    jumped = decide(files, policy, now_ns=NOW + minutes * MINUTE)
    for file in files:
        if file.path in jumped.gone:
            assert file.mtime_ns <= NOW + minutes * MINUTE - policy.preserve_recent_minutes * MINUTE
    if minutes < 0:
        uncapped = replace(policy, force_cap=True)
        assert decide(files, uncapped, now_ns=NOW + minutes * MINUTE).gone <= decide(files, uncapped).gone


PICTURES = st.lists(
    st.builds(File, st.builds(b"a/%03d.png".__mod__, st.integers(0, 99)), st.integers(1, 50), MINUTES, RECORDS),
    max_size=16,
    unique_by=lambda file: file.path,
)


@given(PICTURES, POLICIES, st.sampled_from([1, 25, 100]))
def test_low_space_lets_the_oldest_go_first_and_no_more_than_is_needed(files: list[File], policy: CleanupPolicy, low: int) -> None:
    usual, more = decide(files, policy), decide(files, policy, shortage_bytes=low)
    assert usual.gone <= more.gone
    extra = [file for file in files if file.path in more.gone - usual.gone]
    if extra:
        youngest = max(extra, key=lambda file: (file.mtime_ns, file.path))
        # Without it there was not enough.
        assert sum(file.size for file in files if file.path in more.gone) - youngest.size < low


def reason_of(file: File, policy: CleanupPolicy | None = None, *others: File, low: int = 0) -> KeptReason | None:
    """Why one file is kept, among others."""
    chosen = policy or CleanupPolicy(max_delete_share=1.0, keep_counter=False)
    return decide([file, *others], chosen, shortage_bytes=low).reasons[file.path]


PLAIN = CleanupPolicy(max_delete_share=1.0, keep_counter=False)


def test_a_file_that_is_old_enough_and_on_record_goes() -> None:
    assert reason_of(File(b"a/x.png")) is None


@pytest.mark.parametrize(
    ("expected", "file", "policy"),
    [
        (KeptReason.EXCLUDED, File(b"a/x.png", minutes=-10), replace(PLAIN, exclude_patterns=("a/",), preserve_patterns=("*.png",))),
        (KeptReason.PRESERVED, File(b"a/x.png", minutes=-10), replace(PLAIN, preserve_patterns=("*.jpg", "*.png"))),
        (KeptReason.FUTURE, File(b"x.png", minutes=-10), replace(PLAIN, age_hours=0)),
        (KeptReason.RECENT, File(b"x.png", minutes=4), replace(PLAIN, age_hours=0)),
        (KeptReason.TOO_YOUNG, File(b"x.gif", minutes=60), replace(PLAIN, allowed_extensions=("png",))),
        (KeptReason.EXTENSION, File(b"x.gif", size=1), replace(PLAIN, allowed_extensions=("png",), min_size_bytes=5)),
        (KeptReason.TOO_SMALL, File(b"x.png", size=4), replace(PLAIN, min_size_bytes=5, keep_last=1)),
        (KeptReason.KEEP_LAST, File(b"P_00001_.png"), replace(PLAIN, keep_last=1, keep_counter=True)),
        (KeptReason.COUNTER, File(b"P_00001_.png", record=SyncedFile(SyncedState.UNKNOWN)), replace(PLAIN, keep_counter=True)),
        (KeptReason.NOT_SYNCED, File(b"x.png", record=SyncedFile(SyncedState.UNKNOWN)), replace(PLAIN, max_delete_files=0)),
        (KeptReason.CHANGED, File(b"x.png", record=SyncedFile(SyncedState.CHANGED)), PLAIN),
        (KeptReason.INCOMPLETE, File(b"x.png", record=SyncedFile(SyncedState.INCOMPLETE, b"y" * 32)), PLAIN),
        (KeptReason.INVALID, File(b"x.png", record=SyncedFile(SyncedState.INVALID, b"y" * 32)), PLAIN),
        (KeptReason.CULLED, File(b"x.png", record=SyncedFile(SyncedState.CULLED, b"y" * 32)), PLAIN),
        (KeptReason.EDITED, File(b"x.png", record=SyncedFile(SyncedState.EDITED, b"y" * 32)), PLAIN),
        (KeptReason.COPY_NOT_FLUSHED, File(b"x.png", record=SyncedFile(SyncedState.NOT_FLUSHED, b"y" * 32)), PLAIN),
        (KeptReason.COPY_MISSING, File(b"x.png", record=SyncedFile(SyncedState.SYNCED, b"y" * 32)), PLAIN),
        (KeptReason.CAP, File(b"x.png"), replace(PLAIN, max_delete_files=0)),
    ],
    ids=lambda value: value.value if isinstance(value, KeptReason) else "",
)
def test_the_first_reason_that_applies_is_the_one_that_counts(expected: KeptReason, file: File, policy: CleanupPolicy) -> None:
    assert reason_of(file, policy) is expected


def test_a_companion_of_something_that_is_kept_is_kept() -> None:
    picture, prompt = File(b"x.png", record=SyncedFile(SyncedState.UNKNOWN)), File(b"x.txt")
    decided = decide([picture, prompt], PLAIN)
    assert decided.reasons == {b"x.png": KeptReason.NOT_SYNCED, b"x.txt": KeptReason.COMPANION}
    assert reason_of(prompt, PLAIN, replace(picture, minutes=60)) is KeptReason.COMPANION


def test_a_companion_that_was_just_written_keeps_its_picture_and_one_that_is_only_younger_does_not() -> None:
    picture = File(b"x.png")
    assert reason_of(picture, PLAIN, File(b"x.txt", minutes=2)) is KeptReason.COMPANION
    assert decide([picture, File(b"x.txt", minutes=60, size=0)], replace(PLAIN, min_size_bytes=5)).gone == {b"x.png", b"x.txt"}


def test_culled_files_go_when_they_may() -> None:
    culled = File(b"x.png", record=SyncedFile(SyncedState.CULLED, b"y" * 32))
    assert reason_of(culled, replace(PLAIN, clean_culled=True)) is None
    assert reason_of(replace(culled, record=SyncedFile(SyncedState.CULLED)), replace(PLAIN, clean_culled=True)) is KeptReason.NOT_SYNCED


def test_a_young_file_with_a_higher_number_lets_the_older_ones_go() -> None:
    policy = replace(PLAIN, keep_counter=True)
    old = [File(b"a/ComfyUI_%05d_.png" % number) for number in range(1, 30)]
    assert decide(old, policy).gone == {file.path for file in old[:-1]}
    assert decide([*old, File(b"a/ComfyUI_00100_.png", minutes=60)], policy).gone == {file.path for file in old}
    assert decide([*old, File(b"b/ComfyUI_00100_.png", minutes=60)], policy).gone == {file.path for file in old[:-1]}


def test_of_several_files_with_the_highest_number_one_is_left() -> None:
    policy = replace(PLAIN, keep_counter=True)
    files = [File(b"00012-1.png", minutes=9000), File(b"00012-2.png", minutes=8000), File(b"00011-3.png", minutes=7000)]
    assert decide(files, policy).gone == {b"00012-1.png", b"00011-3.png"}


def test_the_newest_are_those_of_each_folder_young_ones_too_and_groups_count_once() -> None:
    policy = replace(PLAIN, keep_last=2)
    files = [File(b"a/%d.png" % at, minutes=2000 + at) for at in range(4)]
    assert decide(files, policy).gone == {b"a/2.png", b"a/3.png"}
    assert decide([*files, File(b"a/new.png", minutes=60)], policy).gone == {b"a/1.png", b"a/2.png", b"a/3.png"}
    assert decide([*files, File(b"a/0.txt", minutes=2000)], policy).gone == {b"a/2.png", b"a/3.png"}
    # What comes from the future takes no place among them.
    assert decide([*files, File(b"a/new.png", minutes=-60)], policy).gone == {b"a/2.png", b"a/3.png"}


def test_the_cap_takes_the_oldest_and_no_half_group_and_goes_on_behind_one_that_is_too_large() -> None:
    files = [File(b"%d.png" % at, minutes=9000 - at) for at in range(4)] + [File(b"1.txt")]
    assert decide(files, replace(PLAIN, max_delete_files=2)).gone == {b"0.png", b"2.png"}
    assert decide(files, replace(PLAIN, max_delete_share=0.21)).gone == {b"0.png", b"2.png"}
    assert len(decide(files, replace(PLAIN, max_delete_files=0, max_delete_share=0.0, force_cap=True)).gone) == 5
    assert cap_of(replace(PLAIN, max_delete_share=0.07), 100) == 7


def test_with_low_space_what_is_too_young_goes_oldest_first_until_there_is_enough() -> None:
    files = [File(b"%d.png" % at, size=10, minutes=600 - at) for at in range(5)] + [File(b"new.png", minutes=30)]
    decided = decide(files, PLAIN, shortage_bytes=25)
    assert decided.gone == {b"0.png", b"1.png", b"2.png"}
    assert set(decided.reasons.values()) - {None} == {KeptReason.TOO_YOUNG}
    unsynced = [replace(files[0], record=SyncedFile(SyncedState.UNKNOWN)), *files[1:]]
    assert decide(unsynced, PLAIN, shortage_bytes=25).gone == {b"1.png", b"2.png", b"3.png"}


def test_a_shortage_is_what_is_missing_to_the_target_once_less_than_the_minimum_is_free() -> None:
    policy = CleanupPolicy(min_free_space_gb=10, target_free_space_gb=15)
    assert (shortage(policy, 10 * 10**9, None), shortage(policy, 9 * 10**9, None)) == (0, 6 * 10**9)
    assert shortage(CleanupPolicy(min_free_space_gb=10), 9 * 10**9, None) == 10**9
    percent = CleanupPolicy(min_free_space_percent=10, target_free_space_percent=20)
    assert (shortage(percent, 10, 100), shortage(percent, 9, 100)) == (0, 11)
    assert shortage(CleanupPolicy(min_free_space_gb=10, min_free_space_percent=10), 15 * 10**9, 200 * 10**9) == 5 * 10**9
    assert shortage(CleanupPolicy(), 0, 100) == 0


def test_a_source_of_which_hardly_anything_is_on_record_is_another_one() -> None:
    chooser = Chooser(CleanupPolicy(), 100)
    for _ in range(9):
        chooser.choose([1], [SyncedFile(SyncedState.UNKNOWN)])
    assert not chooser.another_source
    chooser.choose([1], [SyncedFile(SyncedState.CHANGED)])
    assert chooser.another_source
    chooser.choose([1], [SyncedFile(SyncedState.EDITED)])
    assert not chooser.another_source


def test_a_group_that_is_too_large_to_go_together_stays() -> None:
    files = [File(b"x.p%02d" % at) for at in range(MOST_JOINED)] + [File(b"x.txt")]
    assert set(decide(files, PLAIN).reasons.values()) == {KeptReason.COMPANION}
    assert len(decide(files[1:], PLAIN).gone) == MOST_JOINED


def test_ages_are_of_what_was_asked_for_and_what_is_not_known_counts_as_younger() -> None:
    columns: tuple[list[int], list[int], list[int | None], list[int | None]] = [5, 5], [9, 3], [None, 1], [None, 4]
    assert ages(AgeBasis.MODIFIED, *columns) == [5, 5]
    assert ages(AgeBasis.CREATED, *columns) == [5, 1]
    assert ages(AgeBasis.ACCESSED, *columns) == [9, 5]


def test_a_file_written_while_the_source_is_looked_at_does_not_come_from_the_future() -> None:
    terms = Terms.at(PLAIN, NOW)
    times = [NOW + 30 * 10**9]
    assert judge(FolderFiles(b"", [b"x"], [1], times, times, NOW + 31 * 10**9), terms).kept == {KeptReason.RECENT: Kept(1, 1)}
    assert judge(FolderFiles(b"", [b"x"], [1], times, times, NOW), terms).kept == {KeptReason.FUTURE: Kept(1, 1)}


def test_every_state_of_a_record_but_one_keeps_a_file() -> None:
    going = [state for state in SyncedState if on_record(SyncedFile(state, b"x" * 32, (b"copy",)), CleanupPolicy()) is None]
    assert going == [SyncedState.SYNCED]


def test_patterns_are_those_of_a_gitignore_and_the_last_that_matches_decides() -> None:
    policy = replace(PLAIN, preserve_patterns=("keep/", "!*.jpg", "/top.*"))
    paths = [b"keep/x.png", b"keep/x.jpg", b"a/keep/x.png", b"keep", b"top.png", b"a/top.png"]
    decided = decide([File(path) for path in paths if path != b"keep"], policy)
    assert decided.gone == {b"keep/x.jpg", b"a/top.png"}
