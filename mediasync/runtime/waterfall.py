"""Spans as rows of a waterfall: a tree by parent, across processes, tolerant of spans that were never written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mediasync.runtime.records import SpanLine


@dataclass(frozen=True)
class Row:
    """One row: a span, or `count` alike below the same parent. `busy_ns` is the sum of their durations."""

    span: SpanLine
    depth: int
    count: int
    start_ns: int
    end_ns: int
    busy_ns: int
    size_bytes: int | None
    failed: bool
    error: str

    @property
    def service(self) -> str:
        return self.span.service

    @property
    def name(self) -> str:
        return self.span.name


def rows(spans: Sequence[SpanLine], collapse_from: int | None) -> list[Row]:
    """The tree of `spans` in the order to show it: children below their parent, by start.

    A span whose parent is missing (its process was killed, or writes elsewhere) stands at the top. `collapse_from` or more
    children of one parent with the same service and name, and without children of their own, become one row; None keeps all.
    """
    known = {(span.trace_id, span.span_id) for span in spans}
    children: dict[tuple[str, str] | None, list[SpanLine]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
        parent = (span.trace_id, span.parent_id)
        children[parent if parent in known and span.parent_id != span.span_id else None].append(span)
    result: list[Row] = []
    # A stack, not recursion: a damaged file must not be able to exhaust it.
    pending = [(group, 0) for group in reversed(list(_groups(children[None], children, collapse_from)))]
    while pending:
        group, depth = pending.pop()
        result.append(_row(group, depth))
        if len(group) == 1:
            below = children.pop((group[0].trace_id, group[0].span_id), [])
            pending.extend((inner, depth + 1) for inner in reversed(list(_groups(below, children, collapse_from))))
    return result


def _groups(
    siblings: Sequence[SpanLine], children: dict[tuple[str, str] | None, list[SpanLine]], collapse_from: int | None
) -> Iterator[list[SpanLine]]:
    alike: dict[tuple[str, str], list[SpanLine]] = defaultdict(list)
    if collapse_from is not None:
        for span in siblings:
            if (span.trace_id, span.span_id) not in children:
                alike[span.service, span.name].append(span)
    told = set()
    for span in siblings:
        kind = (span.service, span.name)
        group = alike.get(kind, ())
        if collapse_from is None or len(group) < collapse_from or (span.trace_id, span.span_id) in children:
            yield [span]
        elif kind not in told:
            told.add(kind)
            yield list(group)


def _row(group: Sequence[SpanLine], depth: int) -> Row:
    sizes = [size for span in group if isinstance(size := span.attributes.get("bytes"), int)]
    return Row(
        span=group[0],
        depth=depth,
        count=len(group),
        start_ns=min(span.start_ns for span in group),
        end_ns=max(span.end_ns for span in group),
        busy_ns=sum(span.duration_ns for span in group),
        size_bytes=sum(sizes) if sizes else None,
        failed=any(span.failed for span in group),
        error=next((span.error for span in group if span.error), ""),
    )
