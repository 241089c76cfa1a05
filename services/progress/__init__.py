"""Progress: live and final progress of every job, for any number of watchers.

Owns what was reported of each run and the picture made of it. It never asks anybody anything, decides nothing, and nothing
waits for it: a sync goes on when it is gone. Only the coordinator's report ends a job here.

A report travels `servicer` -> `hub` (one topic a run) -> `aggregate` (the sums) -> `store` -> `hub` -> every watcher. Nothing is
shown that is not stored, which is why a restart, even after SIGKILL, never shows less than a watcher has already seen.
"""
