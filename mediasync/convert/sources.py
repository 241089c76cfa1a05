"""Where files come from."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import duration, file_path, to_seconds
from mediasync.v1 import types_pb2 as pb

_SOURCE_TYPES = {
    model.SourceType.SSH: pb.SOURCE_TYPE_SSH,
    model.SourceType.FORGE: pb.SOURCE_TYPE_FORGE,
    model.SourceType.COMFYUI: pb.SOURCE_TYPE_COMFYUI,
    model.SourceType.VASTAI: pb.SOURCE_TYPE_VASTAI,
}
_TRUST = {
    model.HostKeyTrust.UNKNOWN: pb.HOST_KEY_TRUST_UNKNOWN,
    model.HostKeyTrust.TRUSTED: pb.HOST_KEY_TRUST_TRUSTED,
    model.HostKeyTrust.CHANGED: pb.HOST_KEY_TRUST_CHANGED,
}
_SOURCE_TYPES_BACK = {value: key for key, value in _SOURCE_TYPES.items()}
_TRUST_BACK = {value: key for key, value in _TRUST.items()}


def source_to_pb(source: model.SourceSpec) -> pb.SourceSpec:
    """A source."""
    connection = source.connection
    return pb.SourceSpec(
        name=source.name,
        type=_SOURCE_TYPES[source.type],
        root=source.root,
        ssh=pb.SshConnection(
            host=connection.host,
            port=connection.port,
            user=connection.user,
            identity_files=connection.identity_files,
            known_hosts_files=connection.known_hosts_files,
            accept_new_host_key=connection.accept_new_host_key,
        ),
    )


def source_from_pb(message: pb.SourceSpec) -> model.SourceSpec:
    """A source. An unknown type is taken as SSH, which only means that no defaults apply."""
    ssh = message.ssh
    return model.SourceSpec(
        connection=model.SshConnection(
            ssh.host, ssh.port, ssh.user, tuple(ssh.identity_files), tuple(ssh.known_hosts_files), ssh.accept_new_host_key
        ),
        root=message.root,
        type=_SOURCE_TYPES_BACK.get(message.type, model.SourceType.SSH),
        name=message.name,
    )


def report_to_pb(report: model.SourceReport) -> pb.SourceReport:
    """What is at a source."""
    return pb.SourceReport(
        engine=report.engine,
        platform=report.platform,
        root=file_path(report.root),
        folders=[file_path(folder) for folder in report.folders],
        round_trip=duration(report.round_trip_seconds),
        clock_offset=duration(report.clock_offset_seconds),
        files=report.files,
        size_bytes=report.size_bytes,
        sample=[file_path(name) for name in report.sample],
    )


def report_from_pb(message: pb.SourceReport) -> model.SourceReport:
    """What is at a source."""
    return model.SourceReport(
        message.engine,
        message.platform,
        message.root.raw,
        tuple(folder.raw for folder in message.folders),
        to_seconds(message.round_trip),
        to_seconds(message.clock_offset),
        message.files,
        message.size_bytes,
        tuple(name.raw for name in message.sample),
    )


def host_key_to_pb(key: model.HostKey) -> pb.HostKey:
    """A host's key."""
    return pb.HostKey(
        host=key.host,
        algorithm=key.algorithm,
        fingerprint=key.fingerprint,
        trust=_TRUST[key.trust],
        known_hosts_file=key.known_hosts_file,
    )


def host_key_from_pb(message: pb.HostKey) -> model.HostKey:
    """A host's key. An unknown trust is no trust."""
    trust = _TRUST_BACK.get(message.trust, model.HostKeyTrust.UNKNOWN)
    return model.HostKey(message.host, message.algorithm, message.fingerprint, trust, message.known_hosts_file)
