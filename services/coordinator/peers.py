"""The other services over gRPC: the transfer worker, the event log and the progress service. The only callers of their stubs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import grpc
import grpc.aio

from mediasync import convert, ids
from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKey, Job, SourceReport, SourceSpec, SyncOptions, SyncSpec, SyncSummary
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import (
    events_pb2,
    events_pb2_grpc,
    media_ingest_pb2,
    progress_pb2,
    progress_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
)
from services.coordinator.terms import Acceptance, Activity, Alive, Processed, Scanned

_TRANSFER, _EVENTS, _PROGRESS = "the transfer worker", "the event log", "the progress service"

# SyncFolder sends a heartbeat every few seconds, Progress.Watch too: a stream that is silent for so long is dead.
_SILENCE_SECONDS = 60.0
# One file may take long to look into, and says nothing meanwhile; the channel's keepalive notices a worker that is gone.
_PROCESSING_SILENCE_SECONDS = 1800.0
_CONNECT_SECONDS = 30.0
_QUICK_SECONDS = 10.0
# Who waits for subscriptions is answered a second before the call's deadline.
_ANSWER_SECONDS = 2.0
# A library may have lost a million files.
_REPAIR_SECONDS = 60.0


class GrpcPeers:
    """See `steps.Peers`, and what the servicer asks of a source."""

    def __init__(self, transfer: grpc.aio.Channel, ingest: grpc.aio.Channel, progress: grpc.aio.Channel) -> None:
        self._transfer = transfer_pb2_grpc.TransferStub(transfer)
        self._events = events_pb2_grpc.EventsStub(ingest)
        self._progress = progress_pb2_grpc.ProgressStub(progress)

    async def probe(self, spec: SyncSpec) -> tuple[bytes, ...]:
        """The units of work of a sync, once its source and library were looked at."""
        request = transfer_pb2.ProbeSourceRequest(
            source=convert.source_to_pb(spec.source),
            folders=[convert.file_path(folder) for folder in spec.folders],
            dest_path=spec.dest_path,
            options=convert.options_to_pb(spec.options),
        )
        with rpc_errors(_TRANSFER):
            response = await self._transfer.ProbeSource(request, timeout=_probe_seconds(spec.options))
        return tuple(unit.raw for unit in response.units)

    async def sync_folder(
        self, sync_id: str, spec: SyncSpec, folder: bytes, only_failed_of: str
    ) -> AsyncGenerator[Scanned | Alive | Activity | SyncSummary]:
        """Syncs one folder, or watches it; ends after the summary."""
        request = transfer_pb2.SyncFolderRequest(
            sync_id=sync_id,
            source=convert.source_to_pb(spec.source),
            dest_path=spec.dest_path,
            folder=convert.file_path(folder),
            options=convert.options_to_pb(spec.options),
            only_failed_of=only_failed_of,
        )
        async for event in messages(self._transfer.SyncFolder(request), _TRANSFER, _SILENCE_SECONDS):
            kind = event.WhichOneof("event")
            if kind == "scanned":
                yield Scanned(event.scanned.files_to_take, event.scanned.bytes_to_take)
            elif kind == "activity":
                activity = event.activity
                yield Activity(activity.text, convert.to_unix(activity.gone_since), convert.to_unix(activity.next_try))
            elif kind == "done":
                yield convert.summary_from_pb(event.done.summary)
            else:
                yield Alive()

    async def preview_folder(self, spec: SyncSpec, folder: bytes) -> AsyncGenerator[transfer_pb2.PreviewFolderResponse]:
        """The transfer worker's own stream, as it comes: a preview may name a million files."""
        request = transfer_pb2.PreviewFolderRequest(
            source=convert.source_to_pb(spec.source),
            dest_path=spec.dest_path,
            folder=convert.file_path(folder),
            options=convert.options_to_pb(spec.options),
        )
        async for event in messages(self._transfer.PreviewFolder(request), _TRANSFER, _SILENCE_SECONDS):
            yield event

    async def set_limit(self, sync_id: str, megabits: float | None) -> None:
        """Changes how fast a run may be; None for what its options say."""
        request = transfer_pb2.SetBandwidthLimitRequest(sync_id=sync_id, megabits=megabits)
        with rpc_errors(_TRANSFER):
            await self._transfer.SetBandwidthLimit(request, timeout=_QUICK_SECONDS)

    async def processing(self, sync_id: str) -> AsyncGenerator[Processed]:
        """Follows the processing of a run's files to its end."""
        call = self._transfer.WatchProcessing(transfer_pb2.WatchProcessingRequest(sync_id=sync_id))
        async for state in messages(call, _TRANSFER, _PROCESSING_SILENCE_SECONDS, Reason.DEADLINE_EXCEEDED):
            problems = tuple(convert.problem_from_pb(problem) for problem in state.problems)
            yield Processed(state.files_done, state.files_left, state.files_invalid, problems)

    async def landed(self, sync_id: str) -> tuple[int, int]:
        """Files and bytes that have landed so far."""
        with rpc_errors(_TRANSFER):
            response = await self._transfer.CountLanded(transfer_pb2.CountLandedRequest(sync_id=sync_id), timeout=_QUICK_SECONDS)
        return response.files, response.bytes

    async def discard_beginnings(self, spec: SyncSpec) -> None:
        """Removes what came in part of files of a sync's folders."""
        request = transfer_pb2.DiscardBeginningsRequest(
            source=convert.source_to_pb(spec.source),
            dest_path=spec.dest_path,
            folders=[convert.file_path(folder) for folder in spec.folders],
        )
        with rpc_errors(_TRANSFER):
            await self._transfer.DiscardBeginnings(request, timeout=_QUICK_SECONDS)

    async def publish_end(self, job: Job) -> int:
        """Puts the end of a job into the event log; its sequence number there."""
        event = media_ingest_pb2.Event(
            event_id=ids.event_id("sync_complete", job.sync_id),
            type=media_ingest_pb2.EVENT_TYPE_SYNC_COMPLETE,
            time=convert.timestamp(job.end_time),
            sync_id=job.sync_id,
            source=job.spec.source.label,
            sync=media_ingest_pb2.SyncRecord(
                job_id=job.job_id,
                state=convert.job_state_to_pb(job.state),
                summary=convert.summary_to_pb(job.summary),
                library_root=job.spec.dest_path,
            ),
        )
        with rpc_errors(_EVENTS):
            response = await self._events.Publish(events_pb2.EventsPublishRequest(events=[event]), timeout=_QUICK_SECONDS)
        return response.sequences[0]

    async def wait_delivered(self, subscription: str, sequence: int, seconds: float) -> None:
        """Waits until a subscription has dealt with everything up to `sequence`."""
        request = events_pb2.WaitDeliveredRequest(subscription=subscription, sequence=sequence)
        with rpc_errors(_EVENTS):
            await self._events.WaitDelivered(request, timeout=seconds)

    async def wait_accepted(self, subscriptions: Sequence[str], sync_id: str, seconds: float) -> tuple[Acceptance, ...]:
        """Waits until subscriptions have dealt with every event of a run, for so long at most, and says how they stand."""
        request = events_pb2.WaitAcceptedRequest(subscriptions=subscriptions, sync_id=sync_id)
        with rpc_errors(_EVENTS):
            response = await self._events.WaitAccepted(request, timeout=seconds + _ANSWER_SECONDS)
        if [one.subscription for one in response.subscriptions] != list(subscriptions):
            raise MediasyncError(Reason.INTERNAL, f"{_EVENTS} did not say how each of {', '.join(subscriptions)} stands")
        return tuple(
            Acceptance(
                one.subscription,
                one.left,
                one.rejected,
                one.last_error,
                missing=one.state == events_pb2.SUBSCRIPTION_STATE_UNSPECIFIED,
                too_far_behind=one.state == events_pb2.SUBSCRIPTION_STATE_TOO_FAR_BEHIND,
            )
            for one in response.subscriptions
        )

    async def progress(self, sync_id: str, resume_token: str) -> AsyncGenerator[progress_pb2.ProgressWatchResponse]:
        """The progress service's own stream, as it comes: it is relayed to many watchers, and taking each apart would cost dear."""
        request = progress_pb2.ProgressWatchRequest(sync_id=sync_id, resume_token=resume_token)
        async for event in messages(self._progress.Watch(request), _PROGRESS, _SILENCE_SECONDS):
            yield event

    async def test_source(self, spec: SyncSpec, seconds: float | None) -> SourceReport:
        """What is at a source, with files counted. `seconds` is how long the one who asks is willing to wait."""
        request = transfer_pb2.ProbeSourceRequest(
            source=convert.source_to_pb(spec.source),
            folders=[convert.file_path(folder) for folder in spec.folders],
            count_files=True,
            survey=True,
            dest_path=spec.dest_path,
            # A person waits for the answer: one attempt says more than three.
            options=convert.options_to_pb(dataclasses.replace(spec.options, retry_attempts=0)),
        )
        with rpc_errors(_TRANSFER):
            response = await self._transfer.ProbeSource(request, timeout=seconds)
        return convert.report_from_pb(response.report)

    async def prepare_repair(self, library_path: str, repair_id: str) -> tuple[list[tuple[str, int]], int]:
        """The keys of the sources that have what a library lost, with how many files each; and how many files no source has."""
        request = transfer_pb2.PrepareRepairRequest(library_path=library_path, repair_id=repair_id)
        with rpc_errors(_TRANSFER):
            response = await self._transfer.PrepareRepair(request, timeout=_REPAIR_SECONDS)
        return [(source.source_key, source.files) for source in response.sources], response.files_without_source

    async def host_key(self, source: SourceSpec) -> HostKey:
        """The key that a host shows."""
        request = transfer_pb2.ReadHostKeyRequest(source=convert.source_to_pb(source))
        with rpc_errors(_TRANSFER):
            response = await self._transfer.ReadHostKey(request, timeout=_CONNECT_SECONDS)
        return convert.host_key_from_pb(response.host_key)

    async def trust_host_key(self, source: SourceSpec, fingerprint: str) -> str:
        """Remembers a host's key; the file that holds it now."""
        request = transfer_pb2.AcceptHostKeyRequest(source=convert.source_to_pb(source), fingerprint=fingerprint)
        with rpc_errors(_TRANSFER):
            response = await self._transfer.AcceptHostKey(request, timeout=_CONNECT_SECONDS)
        return response.known_hosts_file


async def messages(call: Any, who: str, silence_seconds: float, silent: Reason = Reason.SERVICES_UNREACHABLE) -> AsyncGenerator[Any]:
    """The messages of a stream, whose call is cancelled when it is left. Raises `silent` after too long a silence."""
    try:
        with rpc_errors(who):
            while True:
                try:
                    async with asyncio.timeout(silence_seconds):
                        message = await call.read()
                except TimeoutError:
                    raise MediasyncError(silent, f"{who} has said nothing for {silence_seconds:g} s") from None
                if message is grpc.aio.EOF:
                    return
                yield message
    finally:
        call.cancel()


def _probe_seconds(options: SyncOptions) -> float:
    """How long a worker may take to reach a source: every attempt, and the pauses between them, which double."""
    pauses = options.retry_delay_seconds * float(2 ** min(options.retry_attempts, 10) - 1)
    return _QUICK_SECONDS + _CONNECT_SECONDS * (options.retry_attempts + 1) + min(pauses, 3600.0)
