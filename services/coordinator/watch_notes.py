"""What the watches of a job are at, and how much they have brought, kept where `mediasync jobs show` finds it."""

from __future__ import annotations

import logging

from mediasync.errors import MediasyncError
from mediasync.model import Job, JobActivity, SyncSummary
from services.coordinator.store import Store
from services.coordinator.terms import Activity, Peers, Reports

logger = logging.getLogger(__name__)

_MOST_ACTIVITIES = 20


class WatchNotes:
    """See `terms.Watcher`. For one job, while it is under way in this process."""

    def __init__(self, store: Store, peers: Peers, job: Job, reports: Reports) -> None:
        self._store = store
        self._peers = peers
        self._job = job
        self._reports = reports
        self._activities: dict[bytes, JobActivity] = {}

    async def heard(self, folder: bytes, activity: Activity) -> None:
        """The watch of a folder is at this now; an empty text takes it back."""
        activities = self._activities
        activities.pop(folder, None)
        if activity.text:
            activities[folder] = JobActivity(folder, activity.text, activity.gone_since, activity.next_try)
        worst = sorted(activities.values(), key=lambda one: (one.gone_since == 0, one.gone_since, one.folder))
        self._reports.stage(worst[0].text if worst else "")
        await self._store.note_activities(self._job.job_id, worst[:_MOST_ACTIVITIES])
        try:
            files, size = await self._peers.landed(self._job.sync_id)
        except MediasyncError as error:
            logger.info("what the watch has brought is not known: %s", error, extra={"reason": error.reason.value})
            return
        await self._store.advance(self._job.job_id, SyncSummary(files_transferred=files, bytes_transferred=size))

    def clear(self) -> None:
        """They are at nothing: the job was paused or resumed."""
        self._activities.clear()
        self._reports.stage("")
