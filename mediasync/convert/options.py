"""How a sync behaves."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import duration, to_seconds
from mediasync.v1 import types_pb2 as pb

_FOLLOW = {
    model.FollowSymlinks.NONE: pb.FOLLOW_SYMLINKS_NONE,
    model.FollowSymlinks.FILES: pb.FOLLOW_SYMLINKS_FILES,
    model.FollowSymlinks.ALL: pb.FOLLOW_SYMLINKS_ALL,
}
_DUPLICATES = {
    model.Duplicates.KEEP: pb.DUPLICATES_KEEP,
    model.Duplicates.SKIP: pb.DUPLICATES_SKIP,
    model.Duplicates.HARDLINK: pb.DUPLICATES_HARDLINK,
}
_DURABILITY = {model.Durability.FULL: pb.DURABILITY_FULL, model.Durability.FAST: pb.DURABILITY_FAST}
_FOLLOW_BACK = {value: key for key, value in _FOLLOW.items()}
_DUPLICATES_BACK = {value: key for key, value in _DUPLICATES.items()}
_DURABILITY_BACK = {value: key for key, value in _DURABILITY.items()}


def options_to_pb(options: model.SyncOptions) -> pb.SyncOptions:
    """Options, every default spelled out."""
    return pb.SyncOptions(
        parallel_transfers=options.parallel_transfers,
        retry_attempts=options.retry_attempts,
        retry_delay=duration(options.retry_delay_seconds),
        extract_metadata=options.extract_metadata,
        verify_transfers=options.verify_transfers,
        full_scan=options.full_scan,
        settle_time=duration(options.settle_seconds),
        incomplete_after=duration(options.incomplete_after_seconds),
        newest_first=options.newest_first,
        restore=options.restore,
        watch=options.watch,
        bandwidth_limit_mbps=options.bandwidth_limit_mbps,
        bandwidth_timetable=options.bandwidth_timetable,
        follow_symlinks=_FOLLOW[options.follow_symlinks],
        min_size_bytes=options.min_size_bytes,
        max_size_bytes=options.max_size_bytes,
        min_age_minutes=options.min_age_minutes,
        max_age_days=options.max_age_days,
        allowed_extensions=options.allowed_extensions,
        include_patterns=options.include_patterns,
        excluded_patterns=options.excluded_patterns,
        temporary_suffixes=options.temporary_suffixes,
        rewritten_patterns=pb.RewrittenPatterns(patterns=options.rewritten_patterns),
        duplicates=_DUPLICATES[options.duplicates],
        durability=_DURABILITY[options.durability],
        min_free_space_gb=options.min_free_space_gb,
        file_mode=options.file_mode,
        dir_mode=options.dir_mode,
        owner=options.owner,
        group=options.group,
    )


def options_from_pb(message: pb.SyncOptions) -> model.SyncOptions:
    """Options; what is absent is the default."""
    default = model.SyncOptions()
    return model.SyncOptions(
        parallel_transfers=message.parallel_transfers or default.parallel_transfers,
        retry_attempts=message.retry_attempts if message.HasField("retry_attempts") else default.retry_attempts,
        retry_delay_seconds=to_seconds(message.retry_delay) if message.HasField("retry_delay") else default.retry_delay_seconds,
        extract_metadata=message.extract_metadata if message.HasField("extract_metadata") else default.extract_metadata,
        verify_transfers=message.verify_transfers,
        full_scan=message.full_scan,
        settle_seconds=to_seconds(message.settle_time) if message.HasField("settle_time") else default.settle_seconds,
        incomplete_after_seconds=(
            to_seconds(message.incomplete_after) if message.HasField("incomplete_after") else default.incomplete_after_seconds
        ),
        newest_first=message.newest_first,
        restore=message.restore,
        watch=message.watch,
        bandwidth_limit_mbps=message.bandwidth_limit_mbps,
        bandwidth_timetable=tuple(message.bandwidth_timetable),
        follow_symlinks=_FOLLOW_BACK.get(message.follow_symlinks, default.follow_symlinks),
        min_size_bytes=message.min_size_bytes,
        max_size_bytes=message.max_size_bytes,
        min_age_minutes=message.min_age_minutes,
        max_age_days=message.max_age_days,
        allowed_extensions=tuple(message.allowed_extensions),
        include_patterns=tuple(message.include_patterns),
        excluded_patterns=tuple(message.excluded_patterns),
        temporary_suffixes=tuple(message.temporary_suffixes),
        rewritten_patterns=(
            tuple(message.rewritten_patterns.patterns) if message.HasField("rewritten_patterns") else default.rewritten_patterns
        ),
        duplicates=_DUPLICATES_BACK.get(message.duplicates, default.duplicates),
        durability=_DURABILITY_BACK.get(message.durability, default.durability),
        min_free_space_gb=message.min_free_space_gb if message.HasField("min_free_space_gb") else default.min_free_space_gb,
        file_mode=message.file_mode,
        dir_mode=message.dir_mode,
        owner=message.owner,
        group=message.group,
    )
