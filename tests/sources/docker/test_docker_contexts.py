"""Which engine is meant, decided as the docker command does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection
from mediasync.sources.docker.contexts import DEFAULT_URL, endpoint_of


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose home has the contexts `nas` and `secure`, and `broken`."""
    for name, endpoint in (
        ("nas", {"Host": "ssh://ann@nas"}),
        ("secure", {"Host": "tcp://nas:2376", "SkipTLSVerify": True}),
        ("broken", {"Port": 1}),
    ):
        folder = tmp_path / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    return {"HOME": str(tmp_path)}


def chosen(connection: DockerConnection, environ: dict[str, str]) -> tuple[str, str]:
    endpoint = endpoint_of(connection, environ)
    return endpoint.url, endpoint.named_by


def test_what_the_source_says_comes_before_the_environment(environ: dict[str, str]) -> None:
    environ |= {"DOCKER_HOST": "tcp://elsewhere:1", "DOCKER_CONTEXT": "secure"}
    assert chosen(DockerConnection("c", engine_url="unix:///x.sock"), environ) == ("unix:///x.sock", "docker_host")
    assert chosen(DockerConnection("c", "nas"), environ) == ("ssh://ann@nas", "the context nas")
    assert chosen(DockerConnection("c", "default"), environ) == (DEFAULT_URL, "the default")


def test_without_a_word_it_is_the_one_of_the_docker_command(environ: dict[str, str], tmp_path: Path) -> None:
    any_container = DockerConnection("c")
    assert chosen(any_container, environ) == (DEFAULT_URL, "the default")
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "nas", "auths": {}}')
    assert chosen(any_container, environ) == ("ssh://ann@nas", "the context nas")
    environ["DOCKER_CONTEXT"] = "secure"
    assert chosen(any_container, environ)[0] == "tcp://nas:2376"
    environ["DOCKER_HOST"] = "nas:2375"
    assert chosen(any_container, environ) == ("tcp://nas:2375", "DOCKER_HOST")
    assert chosen(any_container, {"DOCKER_CONFIG": str(tmp_path / ".docker")}) == ("ssh://ann@nas", "the context nas")


def test_tls_is_used_where_it_is_asked_for(environ: dict[str, str]) -> None:
    assert endpoint_of(DockerConnection("c", engine_url="tcp://h:1"), environ).tls is None
    assert endpoint_of(DockerConnection("c", engine_url="tcp://h:1"), {**environ, "DOCKER_TLS_VERIFY": "1"}).tls is not None
    assert endpoint_of(DockerConnection("c", engine_url="unix:///s"), {**environ, "DOCKER_TLS_VERIFY": "1"}).tls is None
    assert endpoint_of(DockerConnection("c", "secure"), environ).tls is not None


def test_a_context_that_is_not_there_is_told_with_the_nearest(environ: dict[str, str]) -> None:
    with pytest.raises(MediasyncError) as caught:
        endpoint_of(DockerConnection("c", "nsa"), environ)
    assert caught.value.reason is Reason.DOCKER_CONTEXT_UNKNOWN
    assert "there is no Docker context 'nsa'" in caught.value.message
    assert "the nearest is 'nas'" in caught.value.message
    with pytest.raises(MediasyncError, match="which DOCKER_CONTEXT names; there is broken, default, nas, secure"):
        endpoint_of(DockerConnection("c"), {**environ, "DOCKER_CONTEXT": "zzz"})


def test_what_cannot_be_read_is_told(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(MediasyncError, match=r"the Docker context broken \(.*meta\.json\) cannot be used"):
        endpoint_of(DockerConnection("c", "broken"), environ)
    (tmp_path / ".docker" / "config.json").write_text("{")
    with pytest.raises(MediasyncError, match=r"config\.json cannot be read"):
        endpoint_of(DockerConnection("c"), environ)
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(MediasyncError, match=r"the certificates of .* cannot be used"):
        endpoint_of(DockerConnection("c", engine_url="tcp://h"), {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)})


def test_a_password_in_an_address_is_refused_and_not_repeated(environ: dict[str, str]) -> None:
    with pytest.raises(MediasyncError) as caught:
        endpoint_of(DockerConnection("c"), {**environ, "DOCKER_HOST": "ssh://ann:s3cret@nas"})
    assert caught.value.reason is Reason.CONFIGURATION_INVALID
    assert "s3cret" not in repr(caught.value)
