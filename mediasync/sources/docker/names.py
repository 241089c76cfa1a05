"""How contexts, containers and engines can be written. Plain text rules, for those who check what people wrote."""

from __future__ import annotations

import re

CONTEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,254}")
"""A context of the `docker` command."""
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_LABEL = re.compile(r"label:[^\x00-\x20\x7f=][^\x00-\x1f\x7f=]{0,254}(=[^\x00-\x1f\x7f]{0,1024})?")
_SERVICE = re.compile(r"service:([A-Za-z0-9][A-Za-z0-9_-]{0,254}:)?[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_ENGINE_URL = re.compile(r"unix:///[^\x00-\x1f\x7f]{1,100}|(tcp|ssh|http|https)://[^\s\x00-\x1f\x7f/@:-][^\s\x00-\x1f\x7f]{0,300}")
_PASSWORD = re.compile(r"[a-z]+://[^/@]*:[^/@]*@")


def is_container(text: str) -> bool:
    """Whether `text` can name a container: its name or id, `label:KEY=VALUE` or `service:[PROJECT:]NAME`."""
    return bool(_CONTAINER.fullmatch(text) or _LABEL.fullmatch(text) or _SERVICE.fullmatch(text))


def check_engine_url(text: str) -> str:
    """Returns the address of a Docker engine as it was written, in the form of DOCKER_HOST. Raises ValueError that says what was expected;
    an address with a password in it is none."""
    if not _ENGINE_URL.fullmatch(text) or _PASSWORD.match(text):
        raise ValueError("the address of a Docker engine: unix:///run/docker.sock, tcp://host:2376 or ssh://user@host")
    return text
