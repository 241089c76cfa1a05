"""The plays: each is one promise of the contract, seen from a subscriber's side, in the words of `docs/ingest-guide.md`."""

from __future__ import annotations

import asyncio

from mediasync.conformance.events import DELETED, LOOKALIKES, ODD_NAMES, PROCESSED, SYNCED, made_again, odd_metadata, of_a_later_version
from mediasync.conformance.playing import LIBRARY, ONE_BY_ONE, ConformanceError, NotPlayedError, Part, Play, check_answer, digest
from mediasync.v1 import media_ingest_pb2 as pb

_FULL_CALL_BYTES = 3 << 20
_BATCH = 50
_OTHER = f"{LIBRARY}-2"


async def every_call(part: Part) -> str:
    """Each call alone; which there are."""
    alone = (*part.make.life(b"a.png"), part.make.sync())
    offered = [ONE_BY_ONE[event.type][0] for event in alone if await part.tell_alone(event)]
    event = part.make.file(b"b.png")
    part.told[event.file.library_path.raw] = event
    response = await part.call("OnBatchSynced", pb.OnBatchSyncedRequest(events=[event]))
    if response is not None:
        check_answer("OnBatchSynced", [event], response.results)
        offered.append("OnBatchSynced")
    if not offered:
        raise ConformanceError("it implements no call that takes an event")
    if await part.call("VerifyFileExists", part.question(b"a.png")) is not None:
        offered.append("VerifyFileExists")
    if await part.call("VerifyFilesExist", pb.VerifyFilesExistRequest(files=[part.question(b"a.png")])) is not None:
        offered.append("VerifyFilesExist")
    return f"it implements {', '.join(sorted(offered))}"


async def a_batch(part: Part) -> None:
    """One call, many events."""
    events = part.make.files(_BATCH)
    await part.tell(*events)
    for number in (0, _BATCH // 2, _BATCH - 1):
        await part.must_know(b"%05d.png" % number, events[number])


async def the_life_of_a_file(part: Part) -> None:
    """All that may happen to a file, in one call. Deleted at its source, it is in the library still."""
    await part.tell(*part.make.life(b"a.png"))
    await part.must_know(b"a.png", when="after it was deleted at its source; the library keeps it")


async def repetitions(part: Part) -> None:
    """At least once: in a later call, and in the same one."""
    events = part.make.life(b"a.png")
    for _ in range(3):
        await part.tell(*events)
    await part.tell(events[0], events[0], events[1])
    await part.must_know(b"a.png", events[0], "after its events came again")


async def other_content(part: Part) -> None:
    """A path can get other content, in one call or in two; what came last counts, also when both come again."""
    first, second = part.make.file(b"a.png"), part.make.file(b"a.png", content=b"another picture", second=60)
    await part.tell(first, second)
    await part.must_know(b"a.png", second, "after it got other content in one call")
    await part.must_not_know(b"a.png", first, "with the hash that it had before")
    await part.tell(first, second)
    await part.must_know(b"a.png", second, "after both of its contents were told again, in order")
    third = part.make.file(b"a.png", content=b"a third picture", second=120)
    await part.tell(third)
    await part.must_know(b"a.png", third, "after it got other content in a call of its own")
    await part.must_not_know(b"a.png", second, "with the hash that it had before")


async def told_apart(part: Part) -> None:
    """By the exact path and hash."""
    event = part.make.file(b"a.png")
    await part.must_not_know(b"a.png", why="before anybody told of it")
    await part.tell(event)
    await part.must_know(b"a.png")
    await part.must_know(b"a.png", event)
    other = part.make.file(b"a.png", content=b"never told")
    other.file.digest.CopyFrom(digest(b"\0" * 32))
    await part.must_not_know(b"a.png", other, "with a hash that nobody told of")
    await part.must_not_know(b"b.png", why="although nobody told of it")
    await part.must_not_know(b"A.PNG", why="although only a.png was told of: paths are bytes, case counts")


async def reordered_between_files(part: Part) -> None:
    """Order holds per file only: an event that was held up comes after younger ones of other files."""
    (a, a_seen, a_gone), (b, b_seen, b_gone), (c, c_seen, _) = (part.make.life(name) for name in (b"a.png", b"b.png", b"c.png"))
    await part.tell(c, c_seen, b)
    await part.tell(a, b_seen)
    await part.tell(a_seen, b_gone, a_gone)
    for name, event in ((b"a.png", a), (b"b.png", b), (b"c.png", c)):
        await part.must_know(name, event, "when events of other files with higher sequence numbers had come before")


async def odd_names(part: Part) -> None:
    """A name is bytes, and nothing else."""
    events = [part.make.file(name, content=name) for name in ODD_NAMES]
    await part.tell(*events)
    for name, event in zip(ODD_NAMES, events, strict=True):
        await part.must_know(name, event)
    for name in LOOKALIKES:
        await part.must_not_know(name, why="although only a name that looks alike was told of")


async def odd_metadata_of_any_size(part: Part) -> None:
    """14 MB of what strict parsers trip over."""
    await part.tell(part.make.file(b"huge.png"))
    event = part.make.file(b"huge.png", PROCESSED, metadata=odd_metadata())
    await part.tell(event)
    await part.must_know(b"huge.png", event)


async def a_full_call(part: Part) -> None:
    """As large as calls with several events get."""
    events = part.make.files(_BATCH)
    for event in events:
        event.file.metadata.prompt = "p" * (_FULL_CALL_BYTES // _BATCH)
    await part.tell(*events)
    await part.must_know(b"00000.png", events[0])


async def the_edge_of_numbers(part: Part) -> None:
    """Sizes of 63 bits, times of the years 1 and 9999."""
    event = part.make.file(b"edge.png")
    event.file.size_bytes = 2**63 - 1
    event.file.modify_time.seconds = 253402300799
    event.time.seconds = -62135596800
    await part.tell(event)
    await part.must_know(b"edge.png")


async def no_beginning(part: Part) -> None:
    """One that begins to follow today was not there when a file came."""
    await part.tell(part.make.file(b"a.png", PROCESSED))
    await part.tell(part.make.file(b"b.png", DELETED))
    moved = part.make.file(b"c.png", SYNCED, moved_from=b"never-told.png")
    await part.tell(moved)
    await part.must_know(b"c.png", moved, "when it was told of for the first time as moved")


async def a_moved_file(part: Part) -> str:
    """Found again under another name."""
    event = part.make.file(b"old.png")
    moved = part.make.file(b"new.png", moved_from=b"old.png", second=60)
    await part.tell(event, part.make.file(b"old.png", PROCESSED))
    await part.tell(moved)
    await part.must_know(b"new.png", moved, "under its new name")
    if await part.knows(b"old.png"):
        return "the old name is still on record: look at `file.moved_from`"
    return ""


async def two_libraries(part: Part) -> str:
    """The same path twice."""
    here = part.make.file(b"a.png")
    there = part.make.file(b"a.png", content=b"of another library", library_root=_OTHER)
    await part.tell(here)
    await part.tell(there)
    if False in [await part.knows(b"a.png", here, LIBRARY), await part.knows(b"a.png", there, _OTHER)]:
        return "the same path in two libraries is one file to it: keep `library_root` too, if it is to follow more than one"
    return ""


async def a_folder_has_landed(part: Part) -> None:
    """An event that is about no file."""
    event = part.make.file(b"a.png")
    await part.tell(part.make.batch(b"txt2img-images", 1), event)
    await part.must_know(b"a.png", event)


async def a_later_version(part: Part) -> None:
    """Contracts grow: what is not known is accepted and ignored."""
    unknown, event = of_a_later_version(part.make.file(b"a.png")), part.make.file(b"b.png")
    response = await part.call("OnBatchSynced", pb.OnBatchSyncedRequest(events=[unknown, event]))
    if response is None:
        raise NotPlayedError("OnBatchSynced is not implemented, and nothing else carries events of types that are not known")
    part.told[event.file.library_path.raw] = event
    check_answer("OnBatchSynced", [unknown, event], response.results)
    await part.must_know(b"b.png", event, "beside an event of a type that is not known")
    await part.must_not_know(b"a.png", why="from an event of a type that nobody knows yet")


async def events_made_again(part: Part) -> None:
    """A snapshot or a repair tells what is known already, under other ids and without sequence numbers."""
    events = part.make.files(3)
    await part.tell(*events)
    await part.tell(*made_again([*events, part.make.file(b"only-there.png")]))
    await part.must_know(b"00000.png", events[0], "after a snapshot told of it again")
    await part.must_know(b"only-there.png", when="when a snapshot told of it (sequence 0)")


async def many_questions(part: Part) -> str:
    """What `mediasync subscribers verify` asks: sixteen at once, or many in a call."""
    events = part.make.files(8)
    await part.tell(*events)
    names = [b"%05d.png" % number for number in range(16)]
    at_once = await asyncio.gather(*(part.knows(name) for name in names))
    if part.blind:
        return ""
    expected = [True] * 8 + [False] * 8
    if at_once != expected:
        raise ConformanceError("VerifyFileExists answered otherwise when sixteen were asked at once")
    response = await part.call("VerifyFilesExist", pb.VerifyFilesExistRequest(files=[part.question(name) for name in reversed(names)]))
    if response is None:
        return "VerifyFilesExist is not implemented; a verify asks for one file after the other"
    if len(response.exists) != 16:
        raise ConformanceError(f"VerifyFilesExist gave {len(response.exists)} answers to 16 questions")
    if list(response.exists) != expected[::-1]:
        raise ConformanceError("VerifyFilesExist does not answer in the order of the questions, or not as VerifyFileExists does")
    return ""


async def a_restart(part: Part) -> None:
    """Accepted is safe."""
    events = part.make.files(20)
    await part.tell(*events)
    await part.restarted()
    for number, event in enumerate(events):
        await part.must_know(b"%05d.png" % number, event, "after a restart")


PLAYS: tuple[tuple[str, Play], ...] = (
    ("every call is answered for its event, or not implemented", every_call),
    ("a batch is answered event by event", a_batch),
    ("the life of a file is taken in one call", the_life_of_a_file),
    ("repetitions are accepted and change nothing", repetitions),
    ("of two contents of a path the last one counts", other_content),
    ("files are told apart by exact path and hash", told_apart),
    ("events of different files are taken in any order", reordered_between_files),
    ("names are bytes and nothing else", odd_names),
    ("metadata of any kind and size is taken", odd_metadata_of_any_size),
    ("a full call of 3 MiB is taken", a_full_call),
    ("times and sizes at the edge are taken", the_edge_of_numbers),
    ("files whose beginning was not seen are taken", no_beginning),
    ("a moved file is known under its new name", a_moved_file),
    ("the same path in two libraries is two files", two_libraries),
    ("the event of a folder is accepted", a_folder_has_landed),
    ("what a later version sends is accepted and ignored", a_later_version),
    ("a snapshot is taken", events_made_again),
    ("many questions are answered, in order", many_questions),
    ("what was accepted is still there after a restart", a_restart),
)
