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
    model.SourceType.DOCKER: pb.SOURCE_TYPE_DOCKER,
    model.SourceType.LOCAL: pb.SOURCE_TYPE_LOCAL,
}
_ENGINES = {
    model.Engine.AUTO: pb.ENGINE_AUTO,
    model.Engine.AGENT: pb.ENGINE_AGENT,
    model.Engine.POSIX: pb.ENGINE_POSIX,
    model.Engine.SFTP: pb.ENGINE_SFTP,
    model.Engine.RSYNC: pb.ENGINE_RSYNC,
    model.Engine.ARCHIVE: pb.ENGINE_ARCHIVE,
}
_TRUST = {
    model.HostKeyTrust.UNKNOWN: pb.HOST_KEY_TRUST_UNKNOWN,
    model.HostKeyTrust.TRUSTED: pb.HOST_KEY_TRUST_TRUSTED,
    model.HostKeyTrust.CHANGED: pb.HOST_KEY_TRUST_CHANGED,
}
_SOURCE_TYPES_BACK = {value: key for key, value in _SOURCE_TYPES.items()}
_ENGINES_BACK = {value: key for key, value in _ENGINES.items()}
_TRUST_BACK = {value: key for key, value in _TRUST.items()}


def source_to_pb(source: model.SourceSpec) -> pb.SourceSpec:
    """A source."""
    message = pb.SourceSpec(
        name=source.name, type=_SOURCE_TYPES[source.type], root=source.root, engine=_ENGINES[source.engine], compress=source.compress
    )
    connection = source.connection
    match connection:
        case model.SshConnection():
            message.ssh.CopyFrom(
                pb.SshConnection(
                    host=connection.host,
                    port=connection.port,
                    user=connection.user,
                    identity_files=connection.identity_files,
                    known_hosts_files=connection.known_hosts_files,
                    accept_new_host_key=connection.accept_new_host_key,
                    password_file=connection.password_file,
                    passphrase_file=connection.passphrase_file,
                )
            )
        case model.DockerConnection():
            message.docker.CopyFrom(
                pb.DockerConnection(container=connection.container, context=connection.context, engine_url=connection.engine_url)
            )
        case model.LocalConnection():
            message.local.CopyFrom(pb.LocalConnection())
    return message


def source_from_pb(message: pb.SourceSpec) -> model.SourceSpec:
    """A source. An unknown type is taken as SSH, which only means that no defaults apply; a connection that is not said is an SSH
    connection to nowhere."""
    return model.SourceSpec(
        connection=_connection_from_pb(message),
        root=message.root,
        type=_SOURCE_TYPES_BACK.get(message.type, model.SourceType.SSH),
        name=message.name,
        engine=_ENGINES_BACK.get(message.engine, model.Engine.AUTO),
        compress=message.compress,
    )


def _connection_from_pb(message: pb.SourceSpec) -> model.SourceConnection:
    kind = message.WhichOneof("connection")
    if kind == "docker":
        return model.DockerConnection(message.docker.container, message.docker.context, message.docker.engine_url)
    if kind == "local":
        return model.LocalConnection()
    ssh = message.ssh
    return model.SshConnection(
        ssh.host,
        ssh.port,
        ssh.user,
        tuple(ssh.identity_files),
        tuple(ssh.known_hosts_files),
        ssh.accept_new_host_key,
        ssh.password_file,
        ssh.passphrase_file,
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
        tools=report.tools,
        source_free_bytes=report.source_free_bytes,
        library_free_bytes=report.library_free_bytes,
        bytes_per_second=report.bytes_per_second,
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
        tuple(message.tools),
        message.source_free_bytes if message.HasField("source_free_bytes") else None,
        message.library_free_bytes if message.HasField("library_free_bytes") else None,
        message.bytes_per_second,
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
