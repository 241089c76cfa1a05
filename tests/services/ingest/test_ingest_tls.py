"""Calls to a subscriber on another machine: who it is, who we are, and what it takes. Certificates are made anew for each test."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mediasync.v1.media_ingest_pb2_grpc import add_MediaIngestServicer_to_server
from services.ingest.events import EventKind, LoggedEvent, Tls
from services.ingest.framing import with_sequence
from services.ingest.subscriber import AskedFile, CallFailed, Failure
from services.ingest.subscriber_client import GrpcSubscriber
from tests.fixtures.ingest import RecordingSubscriber, file_event


@dataclass
class Signed:
    """A key, and a certificate for it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def sign(name: str, authority: Signed | None = None) -> Signed:
    """A certificate for this machine, or without `authority` one that signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if authority is not None:
        builder = builder.add_extension(alternative, critical=False)
    return Signed(key, builder.sign(authority.key if authority else key, hashes.SHA256()))


class Guarded(RecordingSubscriber):
    """Lets in who has the token, and remembers what calls carried."""

    token = ""

    async def OnBatchSynced(self, request: Any, context: Any) -> Any:
        said = dict(context.invocation_metadata()).get("authorization", "")
        if said != (f"Bearer {self.token}" if self.token else ""):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return await super().OnBatchSynced(request, context)


Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a subscriber on a port of this machine; the address."""
    servers: list[grpc.aio.Server] = []

    async def start(servicer: RecordingSubscriber, server_key: Signed, client_ca: Signed | None = None, address: str = "") -> str:
        for earlier in servers:
            await earlier.stop(None)
        server = grpc.aio.server()
        add_MediaIngestServicer_to_server(servicer, server)
        pair = (server_key.key_pem, server_key.certificate_pem)
        asked = client_ca.certificate_pem if client_ca else None
        credentials = grpc.ssl_server_credentials([pair], asked, require_client_auth=client_ca is not None)
        port = server.add_secure_port(address or "127.0.0.1:0", credentials)
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


def event(size: int = 0) -> LoggedEvent:
    message = file_event(b"a.png")
    message.file.metadata.workflow_json = b"w" * size
    payload = with_sequence(message.SerializeToString(), 1)
    return LoggedEvent(1, message.event_id, int(EventKind.FILE_SYNCED), b"k" * 16, message.sync_id, "", 0, payload)


def write(path: Path, content: bytes) -> Path:
    # In place and with another time, as a tool that renews certificates leaves it.
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


async def failure(subscriber: GrpcSubscriber) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await subscriber.send_batch([event()])
    await subscriber.close()
    return caught.value


async def test_a_subscriber_proves_who_it_is_and_asks_who_we_are(serve: Serve, tmp_path: Path) -> None:
    authority, stranger = sign("ours"), sign("a stranger")
    address = await serve(subscriber := Guarded(), sign("gallery", authority), client_ca=authority)
    ca = write(tmp_path / "ca.pem", authority.certificate_pem)
    own = sign("media sync", authority)
    keys = write(tmp_path / "own.pem", own.certificate_pem), write(tmp_path / "own.key", own.key_pem)
    known = GrpcSubscriber(address, tls=Tls(ca, *keys))
    assert (await known.send_batch([event()])).all_accepted
    assert [found.sequence for found in subscriber.events] == [1]
    await known.close()
    other_ca = write(tmp_path / "other.pem", stranger.certificate_pem)
    for unknown in (GrpcSubscriber(address, tls=Tls(other_ca, *keys)), GrpcSubscriber(address, tls=Tls(ca)), GrpcSubscriber(address)):
        assert (await failure(unknown)).failure is Failure.UNREACHABLE
    assert len(subscriber.calls) == 1


async def test_certificates_and_tokens_that_were_renewed_are_taken_up(serve: Serve, tmp_path: Path) -> None:
    subscriber, old, new = Guarded(), sign("old"), sign("new")
    address = await serve(subscriber, sign("gallery", old))
    ca, token = write(tmp_path / "ca.pem", old.certificate_pem), write(tmp_path / "token", b"first\n")
    subscriber.token = "first"
    calls = GrpcSubscriber(address, tls=Tls(ca), token_file=token)
    assert (await calls.send_batch([event()])).all_accepted
    subscriber.token = "second"
    with pytest.raises(CallFailed, match="who are you") as caught:
        await calls.send_batch([event()])
    assert (caught.value.failure, caught.value.status) == (Failure.UNREACHABLE, "UNAUTHENTICATED")
    write(token, b"second\n")
    assert (await calls.send_batch([event()])).all_accepted
    await serve(subscriber, sign("gallery", new), address=address)
    with pytest.raises(CallFailed):
        await calls.send_batch([event()])
    write(ca, new.certificate_pem)
    with pytest.raises(CallFailed):
        await calls.send_batch([event()])
    assert (await calls.send_batch([event()])).all_accepted
    await calls.close()


async def test_a_file_that_cannot_be_read_is_named_and_nothing_is_held_against_events(tmp_path: Path) -> None:
    for calls in (
        GrpcSubscriber("127.0.0.1:1", tls=Tls(tmp_path / "nothing.pem")),
        GrpcSubscriber("127.0.0.1:1", token_file=tmp_path / "nothing.pem"),
    ):
        failed = await failure(calls)
        assert failed.failure is Failure.UNREACHABLE
        assert "nothing.pem cannot be read: No such file or directory" in str(failed)


async def test_a_receiver_says_how_much_it_takes(serve: Serve, tmp_path: Path) -> None:
    authority = sign("ours")
    address = await serve(Guarded(), sign("gallery", authority))
    calls = GrpcSubscriber(address, tls=Tls(write(tmp_path / "ca.pem", authority.certificate_pem)))
    with pytest.raises(CallFailed) as caught:
        await calls.send_batch([event(5 << 20)])
    assert (caught.value.failure, caught.value.limit_bytes) == (Failure.TOO_LARGE, 4 << 20)
    assert await calls.holds(AskedFile(b"a.png")) is False
    with pytest.raises(CallFailed) as caught:
        await calls.hold([AskedFile(b"a.png", "/library", b"h" * 32)])
    assert (caught.value.failure, caught.value.status) == (Failure.UNIMPLEMENTED, "UNIMPLEMENTED")
    await calls.close()
