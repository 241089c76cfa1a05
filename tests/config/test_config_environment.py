"""What the environment does to a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediasync.config import schema
from mediasync.config.environment import variable_of
from tests.fixtures.configuration import Configured, Refused

TWO = "sources: {my-forge: {type: forge, host: one}, other: {type: forge, host: two}}"


def test_a_variable_comes_before_the_file(configured: Configured) -> None:
    configuration = configured(
        TWO + "\nsync: {parallel_transfers: 2}",
        {
            "MEDIASYNC_SYNC__PARALLEL_TRANSFERS": "7",
            "MEDIASYNC_SOURCES__MY_FORGE__HOST": "three",
            "MEDIASYNC_SOURCES__MY_FORGE__FOLDERS": "[a, 'b c']",
            "MEDIASYNC_SOURCES__OTHER__FOLDERS": "only one, really",
            "MEDIASYNC_COORDINATOR__LISTEN": "127.0.0.1:0",
        },
    )
    assert configuration.defaults.parallel_transfers == 7
    assert configuration.sources["my-forge"].source.connection.host == "three"
    assert configuration.sources["my-forge"].folders == (b"a", b"b c")
    assert configuration.sources["other"].folders == (b"only one, really",)
    assert configuration.coordinator.listen == "127.0.0.1:0"
    origins = {setting.key: setting.origin for setting in configuration.settings}
    assert origins["sources.my-forge.host"] == "MEDIASYNC_SOURCES__MY_FORGE__HOST"


def test_a_source_can_come_out_of_the_environment_alone(configured: Configured) -> None:
    environ = {f"MEDIASYNC_SOURCES__GPU__{key}": value for key, value in {"TYPE": "vastai", "HOST": "1.2.3.4", "PORT": "4022"}.items()}
    spec = configured("sources:", environ).sources["gpu"]
    assert (spec.source.name, spec.source.connection.address) == ("gpu", "1.2.3.4:4022")


def test_the_older_form_can_be_set_by_variables_too(configured: Configured) -> None:
    spec = configured(
        "", {"MEDIASYNC_SYNC__SOURCE__TYPE": "forge", "MEDIASYNC_SYNC__SOURCE__HOST": "h", "MEDIASYNC_SYNC__DESTINATION": "/d"}
    )
    assert spec.sources["default"].dest_path == "/d"


def test_a_list_of_sections_is_written_as_json(configured: Configured) -> None:
    (subscriber,) = configured(
        "", {"MEDIASYNC_INGEST__SUBSCRIBERS": '[{"name": "a", "address": "localhost:1", "events": []}]'}
    ).ingest.subscribers
    assert (subscriber.name, subscriber.events) == ("a", ())


def test_a_variable_below_a_destination_written_as_its_path_replaces_the_path(configured: Configured) -> None:
    text = "sources: {a: {type: forge, host: h, destination: /d}}"
    assert configured(text, {"MEDIASYNC_SOURCES__A__DESTINATION__PATH": "/e"}).sources["a"].dest_path == "/e"


def test_a_variable_does_not_reach_what_shares_an_anchor(configured: Configured) -> None:
    sources = configured("sources: {a: &a {type: forge, host: h}, b: *a}", {"MEDIASYNC_SOURCES__A__HOST": "x"}).sources
    assert sources["b"].source.connection.host == "h"


def test_media_base_and_log_base_have_short_names_and_long_ones_come_first(configured: Configured) -> None:
    configuration = configured("media_base: /f\nlog_base: /f", {"MEDIA_BASE": "/short", "LOG_BASE": "/s"})
    assert (configuration.media_base, configuration.log_base) == (Path("/short"), Path("/s"))
    configuration = configured("", {"MEDIA_BASE": "/short", "MEDIASYNC_MEDIA_BASE": "/long"})
    assert configuration.media_base == Path("/long")


def test_a_relative_path_in_a_variable_starts_at_the_working_folder(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert configured("", {"MEDIA_BASE": "m"}).media_base == tmp_path / "elsewhere" / "m"


def test_variables_of_processes_and_empty_ones_are_not_configuration(configured: Configured) -> None:
    names = ["CONFIG", "HOME", "LISTEN", "READY_FD", "CRASH_AT", "LOG_LEVEL", "SUPERVISED", "PROGRESS_ADDRESS", "COORDINATOR_ADDRESS"]
    environ = {f"MEDIASYNC_{name}": "x" for name in names} | {"MEDIASYNC_NONSENSE": "", "MEDIA_BASE": ""}
    assert configured("", environ).in_force == ()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MEDIASYNC_SYNC__PARALLEL_TRANSFER", "3", "sets no key; did you mean `MEDIASYNC_SYNC__PARALLEL_TRANSFERS`?"),
        ("MEDIASYNC_SYNC_PARALLEL_TRANSFERS", "3", "sets no key; did you mean `MEDIASYNC_SYNC__PARALLEL_TRANSFERS`?"),
        ("MEDIASYNC_SOURCES__MY_FORGE__HOSST", "3", "sets no key; did you mean `MEDIASYNC_SOURCES__MY_FORGE__HOST`?"),
        ("MEDIASYNC_HOMES", "3", "sets no key; did you mean `MEDIASYNC_HOME`?"),
        ("MEDIASYNC_ZZZZZZZZ", "3", "sets no key"),
        ("MEDIASYNC_SYNC", "3", "`sync` holds keys; set them one by one, as in MEDIASYNC_SYNC__"),
        ("MEDIASYNC_SOURCES", "{}", "`sources` holds keys; set them one by one, as in MEDIASYNC_SOURCES__NAME__"),
        ("MEDIASYNC_SOURCES__MY_FORGE", "h", "`sources.my-forge` holds keys; set them one by one"),
        ("MEDIASYNC_SOURCES__MY_FORGE__FOLDERS", "[a", "is not a list such as [one, two]"),
        ("MEDIASYNC_SYNC__FULL_SCAN", "perhaps", 'expected true or false, found "perhaps"'),
    ],
)
def test_a_variable_that_is_wrong_is_told_by_its_name(refused: Refused, variable: str, value: str, said: str) -> None:
    (field,) = refused(TWO, {variable: value}).fields
    assert field.description.startswith(f"{variable}: {said}")


def test_a_variable_that_fits_two_sources_is_a_mistake_unless_one_has_just_that_name(configured: Configured, refused: Refused) -> None:
    text = "sources: {a-b: {type: forge, host: one}, %s: {type: forge, host: two}}"
    assert "stands for each of a-b, a.b" in refused(text % "a.b", {"MEDIASYNC_SOURCES__A_B__HOST": "x"}).message
    assert configured(text % "a_b", {"MEDIASYNC_SOURCES__A_B__HOST": "x"}).sources["a_b"].source.connection.host == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [("sources: [a]", "`sources` is a list"), ("sources: {a: [b]}", "`sources.a` is a list"), ("sources: x", "is no mapping")],
)
def test_a_variable_below_something_that_holds_no_keys_is_a_mistake_and_no_crash(refused: Refused, text: str, said: str) -> None:
    assert said in refused(text, {"MEDIASYNC_SOURCES__A__HOST": "h"}).message


def test_every_key_has_a_variable_of_its_own() -> None:
    keys = [key for key in schema.paths() if "[]" not in key]
    variables = [variable_of(key) for key in keys]
    assert len(set(variables)) == len(keys)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("/a/${X}/b", "/a/ex/b"),
        ("/${X}${X}", "/exex"),
        ("/${UNSET:-dflt}", "/dflt"),
        ("/${EMPTY:-dflt}", "/dflt"),
        ("/${EMPTY}x", "/x"),
        ("/${UNSET:-}x", "/x"),
        ("/$${X}", "/${X}"),
        ("/$X$", "/$X$"),
        ("/${NESTED}", "/${X}"),
        ("'/${X}'", "/ex"),
    ],
)
def test_variables_are_put_into_values(configured: Configured, written: str, value: str) -> None:
    assert configured(f"media_base: {written}", {"X": "ex", "EMPTY": "", "NESTED": "${X}"}).media_base == Path(value)


def test_a_variable_is_put_into_lists_and_numbers_too_and_nothing_is_no_value(configured: Configured) -> None:
    configuration = configured('sync: {parallel_transfers: "${N}", retry_attempts: "3"}\nmedia_base: ${EMPTY}', {"N": "4", "EMPTY": ""})
    assert configuration.defaults.parallel_transfers == 4
    assert configuration.media_base is None
    assert configured('sources: {a: {type: forge, host: h, folders: ["${X}"]}}', {"X": "f"}).sources["a"].folders == (b"f",)


def test_variables_that_would_fill_the_memory_are_refused(refused: Refused) -> None:
    assert "characters come out of variables" in refused("media_base: /" + "${X}" * 50, {"X": "x" * 100_000}).message
