"""Which Docker engine is meant, decided as the `docker` command decides it.

Named by the source: its `docker_host`, or the context in its URL. Else, in this order: DOCKER_HOST, DOCKER_CONTEXT, the current context of
`~/.docker/config.json` (DOCKER_CONFIG), and `/var/run/docker.sock`. TLS: a context brings its own certificates; an address uses
those of DOCKER_CERT_PATH when DOCKER_TLS_VERIFY is set. Reads files of the services' user, and the environment of the services.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection
from mediasync.sources.docker.names import check_engine_url
from mediasync.suggest import nearest

DEFAULT_URL = "unix:///var/run/docker.sock"
_REMEDY = "`docker context ls` shows the contexts there are, `docker context inspect NAME` what is in one."


@dataclass(frozen=True)
class Endpoint:
    """An engine's address, and who said it. `tls` is None for a plain connection."""

    url: str
    named_by: str
    tls: ssl.SSLContext | None = field(default=None, compare=False)


def endpoint_of(connection: DockerConnection, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The engine of a source. Reads files. Raises DOCKER_CONTEXT_UNKNOWN, CONFIGURATION_INVALID."""
    if connection.engine_url:
        return _address(connection.engine_url, "docker_host", environ)
    context = connection.context
    named_by = "the source"
    if not context:
        if environ.get("DOCKER_HOST"):
            return _address(environ["DOCKER_HOST"], "DOCKER_HOST", environ)
        if environ.get("DOCKER_CONTEXT"):
            context, named_by = environ["DOCKER_CONTEXT"], "DOCKER_CONTEXT"
        else:
            context, named_by = _current(_folder(environ)), str(_folder(environ) / "config.json")
    if not context or context == "default":
        return Endpoint(DEFAULT_URL, "the default")
    return _context(context, named_by, _folder(environ))


def _folder(environ: Mapping[str, str]) -> Path:
    configured = environ.get("DOCKER_CONFIG")
    return Path(configured) if configured else Path(environ.get("HOME") or Path.home(), ".docker")


def _address(url: str, named_by: str, environ: Mapping[str, str]) -> Endpoint:
    # As the command has it: `host:2375` is TCP.
    url = url if "://" in url else f"tcp://{url}"
    try:
        check_engine_url(url)
    except ValueError as error:
        # Not shown: it may hold a password.
        raise MediasyncError(Reason.CONFIGURATION_INVALID, f"{named_by} is not {error}", f"Correct {named_by}.") from None
    if not url.startswith(("tcp://", "https://")):
        return Endpoint(url, named_by)
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not url.startswith("https://"):
        return Endpoint(url, named_by)
    folder = Path(environ.get("DOCKER_CERT_PATH") or _folder(environ))
    return Endpoint(url, named_by, _tls(folder, f"the certificates of {folder}", verify=True))


def _current(folder: Path) -> str:
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID,
            f"{folder / 'config.json'} cannot be read: {error}",
            "Correct it, or name the engine (docker_host).",
        ) from None
    current = found.get("currentContext", "") if isinstance(found, dict) else ""
    return current if isinstance(current, str) else ""


def _context(name: str, named_by: str, folder: Path) -> Endpoint:
    # The command's own layout: a folder is called after the sha256 of the name.
    digest = hashlib.sha256(name.encode()).hexdigest()
    file = folder / "contexts" / "meta" / digest / "meta.json"
    try:
        endpoint = json.loads(file.read_bytes())["Endpoints"]["docker"]
        url, skip = str(endpoint["Host"]), bool(endpoint.get("SkipTLSVerify"))
        check_engine_url(url)
    except FileNotFoundError:
        raise _unknown(name, named_by, folder) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID, f"the Docker context {name} ({file}) cannot be used: {type(error).__name__}: {error}", _REMEDY
        ) from None
    certificates = folder / "contexts" / "tls" / digest / "docker"
    tls = None
    if url.startswith(("tcp://", "https://")) and (certificates.is_dir() or skip):
        tls = _tls(certificates, f"the certificates of the Docker context {name}", verify=not skip)
    return Endpoint(url, f"the context {name}", tls)


def _unknown(name: str, named_by: str, folder: Path) -> MediasyncError:
    known = ["default"]
    for file in sorted((folder / "contexts" / "meta").glob("*/meta.json")):
        try:
            known.append(str(json.loads(file.read_bytes())["Name"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a broken one is no candidate; it is told when it is asked for
    near = nearest(name, known)
    said = f"; the nearest is {near!r}" if near else f"; there is {', '.join(sorted(known))}"
    message = f"there is no Docker context {name!r} in {folder}, which {named_by} names{said}"
    return MediasyncError(Reason.DOCKER_CONTEXT_UNKNOWN, message, _REMEDY)


def _tls(folder: Path, what: str, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if (folder / "ca.pem").exists():
            context.load_verify_locations(folder / "ca.pem")
        if (folder / "cert.pem").exists():
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID, f"{what} cannot be used: {error}", "There should be ca.pem, cert.pem and key.pem in PEM form."
        ) from None
    return context
