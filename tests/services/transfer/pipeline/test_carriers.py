"""Each carrier of each writer, and what hostile bytes do to them: nothing."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediasync.model import GenerationMetadata
from services.transfer.pipeline.formats import tiff
from services.transfer.pipeline.formats.limits import MAX_TEXT_BYTES, MAX_TEXTS, MAX_TEXTS_BYTES
from services.transfer.pipeline.formats.texts import Texts
from services.transfer.pipeline.metadata import carriers
from services.transfer.pipeline.metadata.stage import MetadataStage
from services.transfer.pipeline.metadata.text import MAX_GRAPH_BYTES
from services.transfer.pipeline.stage import MediaFacts, MediaFile, run_stages
from services.transfer.pipeline.stages import STAGES
from tests.fixtures.media import (
    FORGE_TEXT,
    box,
    comfy_png,
    element,
    exif,
    itunes_comment,
    itxt_chunk,
    jpeg,
    mdta_tags,
    mp4,
    picture,
    png,
    png_chunk,
    text_chunk,
    text_to_image,
    webm,
    ztxt_chunk,
)

GRAPH = json.dumps(text_to_image())
WORKFLOW = '{"nodes": [], "version": 0.4}'
UNICODE = FORGE_TEXT.replace("lighthouse", "灯台 lighthouse 🗼")


def find(file: MediaFile) -> GenerationMetadata:
    metadata = MetadataStage().process(file, MediaFacts()).metadata
    assert metadata is not None
    return metadata


@pytest.mark.parametrize(
    "chunk",
    [
        text_chunk("parameters", FORGE_TEXT),
        ztxt_chunk("parameters", FORGE_TEXT.encode()),
        itxt_chunk("parameters", UNICODE),
        itxt_chunk("parameters", UNICODE, compressed=True),
        png_chunk(b"tEXt", b"parameters\0" + UNICODE.encode()),
        png_chunk(b"eXIf", exif(user_comment=b"UNICODE\0" + UNICODE.encode("utf-16-be"))),
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt compressed", "tEXt with UTF-8", "eXIf"],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_png_carries_the_text_in_any_chunk_before_or_after_its_pixels(make_media: Any, chunk: bytes, place: str) -> None:
    data = png(chunk) if place == "before" else png(after=(chunk,))
    metadata = find(make_media("00001-3141592653.png", data))
    assert (metadata.generator, metadata.seed) == ("Forge", 3141592653)
    assert metadata.prompt.startswith(
        "a 灯台 lighthouse 🗼 at" if b"tEXt" not in chunk or "灯".encode() in chunk else "a lighthouse at"
    ) or (b"zTXt" in chunk)


def test_a_png_in_latin_1_keeps_its_accents(make_media: Any) -> None:
    assert find(make_media("a.png", png(text_chunk("parameters", FORGE_TEXT.replace("dusk", "café"))))).prompt.startswith(
        "a lighthouse at café"
    )


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + UNICODE.encode("utf-16-be"),
        b"UNICODE\0" + UNICODE.encode("utf-16-le"),
        b"UNICODE\0" + b"\xff\xfe" + UNICODE.encode("utf-16-le"),
        b"UNICODE\0" + b"\xfe\xff" + UNICODE.encode("utf-16-be"),
        b"UNICODE\0" + UNICODE.encode(),
        b"ASCII\0\0\0" + UNICODE.encode(),
        bytes(8) + UNICODE.encode(),
        bytes(8) + UNICODE.encode("utf-16-be"),
        UNICODE.encode(),
    ],
    ids=["BE", "LE", "LE with mark", "BE with mark", "labelled UTF-8", "ASCII", "unlabelled UTF-8", "unlabelled BE", "bare"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_user_comment_is_read_in_every_encoding_that_is_written(comment: bytes, order: str) -> None:
    texts = Texts()
    tiff.read_texts(b"Exif\0\0" + exif({0x0131: "someone"}, comment, order), texts)
    assert texts.get(tiff.USER_COMMENT) == UNICODE
    assert texts.get("exif:Software") == "someone"


def test_a_japanese_comment_in_jis_is_read() -> None:
    assert tiff.user_comment(b"JIS\0\0\0\0\0" + "灯台".encode("iso2022_jp")) == "灯台"


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("a.jpg", jpeg),
        ("a.webp", lambda block: picture("WEBP", exif=block)),
        ("a.webp", lambda block: picture("WEBP", exif=b"Exif\0\0" + block)),
        ("a.avif", lambda block: picture("AVIF", exif=block)),
    ],
    ids=["JPEG", "WebP", "WebP with marker", "AVIF"],
)
def test_forges_other_formats_carry_the_text_in_exif(make_media: Any, name: str, build: Callable[[bytes], bytes]) -> None:
    metadata = find(make_media(name, build(exif(user_comment=b"UNICODE\0" + UNICODE.encode("utf-16-be")))))
    assert (metadata.generator, metadata.seed, metadata.parameters) == ("Forge", 3141592653, UNICODE)


def test_a_gif_and_a_jpeg_carry_the_text_in_their_comment(make_media: Any) -> None:
    assert find(make_media("a.gif", picture("GIF", comment=FORGE_TEXT.encode()))).seed == 3141592653
    assert find(make_media("a.jpg", picture("JPEG", comment=FORGE_TEXT.encode()))).seed == 3141592653


def test_fill_bytes_and_lone_markers_before_a_jpegs_segments_are_passed_over() -> None:
    plain = jpeg(exif(user_comment=b"ASCII\0\0\0" + FORGE_TEXT.encode()))
    data = plain[:2] + b"\xff\x01" + b"\xff" * 9 + plain[2:]
    assert carriers.read_texts(io.BytesIO(data), "image/jpeg").get(tiff.USER_COMMENT) == FORGE_TEXT
    endless = plain[:2] + b"\xff" * 100_000 + plain[2:]
    assert len(carriers.read_texts(io.BytesIO(endless), "image/jpeg")) == 0


def test_the_extras_tab_adds_its_fields(make_media: Any) -> None:
    upscaled = text_chunk("postprocessing", "Postprocess upscale by: 4, Postprocess upscaler: R-ESRGAN 4x+")
    both = find(make_media("a.png", png(text_chunk("parameters", FORGE_TEXT), upscaled)))
    assert dict(both.fields)["Postprocess upscaler"] == "R-ESRGAN 4x+"
    alone = find(make_media("b.png", png(upscaled)))
    assert (alone.generator, alone.fields[0]) == ("A1111", ("Postprocess upscale by", "4"))


def test_a_comfyui_png_keeps_both_graphs_as_the_file_holds_them(make_media: Any) -> None:
    metadata = find(make_media("ComfyUI_00001_.png", comfy_png(text_to_image())))
    assert (metadata.prompt_json, metadata.workflow_json) == (GRAPH.encode(), WORKFLOW.encode())
    assert metadata.seed == 156680208700286


def test_a_node_that_saves_a1111s_text_still_runs_in_comfyui(make_media: Any) -> None:
    text = "a cat\nSteps: 20, Sampler: euler, Seed: 5"
    metadata = find(make_media("a.png", png(text_chunk("parameters", text), text_chunk("prompt", GRAPH))))
    assert (metadata.generator, metadata.seed, metadata.prompt_json) == ("ComfyUI", 5, GRAPH.encode())


def test_an_animated_png_carries_the_graphs_in_private_chunks_after_its_pixels(make_media: Any) -> None:
    chunks = (png_chunk(b"comf", b"prompt\0" + GRAPH.encode()), png_chunk(b"comf", b"workflow\0" + WORKFLOW.encode()))
    metadata = find(make_media("a.png", png(after=chunks)))
    assert (metadata.seed, metadata.workflow_json) == (156680208700286, WORKFLOW.encode())


def test_an_animated_webp_carries_the_graphs_as_camera_model_and_make(make_media: Any) -> None:
    block = exif({0x0110: f"prompt:{GRAPH}", 0x010F: f"workflow:{WORKFLOW}", 0x010E: 'extra:{"a": 1}'})
    metadata = find(make_media("a.webp", picture("WEBP", exif=block)))
    assert (metadata.generator, metadata.model, metadata.workflow_json) == ("ComfyUI", "v1-5-pruned-emaonly", WORKFLOW.encode())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.mp4", mp4(mdta_tags(prompt=GRAPH, workflow=WORKFLOW))),
        ("a.mp4", mp4(itunes_comment(json.dumps({"prompt": GRAPH, "workflow": json.loads(WORKFLOW)})))),
        ("a.mov", mp4(mdta_tags(prompt=GRAPH, workflow=WORKFLOW)).replace(b"isom\0\0\2\0", b"qt  \0\0\2\0")),
        ("a.webm", webm(PROMPT=GRAPH, WORKFLOW=WORKFLOW)),
        ("a.webm", webm(ENCODER="Lavf", COMMENT=json.dumps({"prompt": GRAPH, "workflow": json.loads(WORKFLOW)}))),
        ("a.mkv", webm(Prompt=GRAPH, workflow=WORKFLOW).replace(b"webm", b"matr")),
    ],
    ids=["MP4 keys", "MP4 comment", "MOV keys", "WebM tags", "WebM comment", "MKV tags"],
)
def test_videos_carry_the_graphs_in_tags_or_in_a_comment(make_media: Any, name: str, data: bytes) -> None:
    metadata = find(make_media(name, data))
    assert (metadata.generator, metadata.seed) == ("ComfyUI", 156680208700286)
    assert json.loads(metadata.prompt_json) == text_to_image()
    assert json.loads(metadata.workflow_json) == json.loads(WORKFLOW)


def test_free_form_tags_of_an_mp4_are_read(make_media: Any) -> None:
    name = box(b"name", bytes(4), b"prompt")
    item = box(b"----", box(b"mean", bytes(4), b"com.apple.iTunes"), name, box(b"data", struct.pack(">II", 1, 0), GRAPH.encode()))
    assert find(make_media("a.mp4", mp4(box(b"meta", bytes(4), box(b"ilst", item))))).seed == 156680208700286


def test_a_picture_that_says_nothing_has_no_metadata(make_media: Any) -> None:
    for name, data in (("a.png", picture()), ("a.jpg", jpeg(exif({0x010F: "Canon", 0x0110: "EOS R5"}))), ("a.txt", b"hello")):
        assert MetadataStage().process(make_media(name, data), MediaFacts()).metadata is None


def test_a_picture_that_is_cut_short_still_tells_what_came_before_the_cut(make_media: Any) -> None:
    data = png(text_chunk("parameters", FORGE_TEXT), size=(300, 300))
    run = run_stages(make_media("a.png", data[:-600]), STAGES)
    assert run.facts.invalid is not None
    assert run.facts.metadata is not None
    assert run.facts.metadata.seed == 3141592653


def test_texts_that_decompress_to_too_much_are_left_out() -> None:
    bomb = zlib.compress(bytes(MAX_TEXT_BYTES + 1))
    data = png(
        png_chunk(b"zTXt", b"prompt\0\0" + bomb), png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + bomb), text_chunk("parameters", FORGE_TEXT)
    )
    assert carriers.read_texts(io.BytesIO(data), "image/png").names() == ("parameters",)


def test_texts_are_bounded_in_number_and_in_all() -> None:
    many = png(*(text_chunk(f"key {number}", "x") for number in range(MAX_TEXTS + 50)))
    assert len(carriers.read_texts(io.BytesIO(many), "image/png")) == MAX_TEXTS
    large = png(*(ztxt_chunk(f"key {number}", bytes(MAX_TEXT_BYTES)) for number in range(6)))
    assert sum(len(text) for _, text in carriers.read_texts(io.BytesIO(large), "image/png")) <= MAX_TEXTS_BYTES


def test_a_graph_that_is_too_large_is_not_kept_but_still_read(make_media: Any) -> None:
    graph = text_to_image()
    graph["99"] = {"class_type": "Note", "inputs": {"text": "x" * MAX_GRAPH_BYTES}}
    metadata = find(make_media("a.png", comfy_png(graph)))
    assert (metadata.seed, metadata.prompt_json, metadata.workflow_json) == (156680208700286, b"", WORKFLOW.encode())


def test_many_exif_entries_that_point_to_the_same_bytes_cost_no_more_than_them() -> None:
    size = 4 << 20
    entries = b"".join(struct.pack("<HHII", 0x010E + number, 2, size, 8) for number in range(500))
    block = b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + struct.pack("<H", 500) + entries
    start = time.process_time()
    tiff.read_texts(block, Texts())
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("video/webm", element(0x18538067, element(0xAE, b"\xe0\x40"), b"")),
        ("video/webm", webm()[:-1] + b"\x45"),
        ("video/mp4", box(b"moov", box(b"udta", struct.pack(">I", 1) + b"meta"))),
        ("video/mp4", box(b"moov", box(b"udta", box(b"meta")))),
        ("video/mp4", box(b"moov", box(b"udta", box(b"meta", bytes(4), box(b"keys", bytes(12)), box(b"ilst", box(b"\0\0\0\1")))))),
    ],
)
def test_parts_whose_head_goes_beyond_what_holds_them_are_left_alone(make_media: Any, media_type: str, data: bytes) -> None:
    assert len(carriers.read_texts(io.BytesIO(data), media_type)) == 0
    run = run_stages(make_media(f"a.{media_type[-4:].strip('/')}", data), STAGES)
    assert run.failures == []


WHOLE: dict[str, tuple[str, bytes]] = {
    "png": ("image/png", comfy_png(text_to_image()) + picture()),
    "png itxt": ("image/png", png(itxt_chunk("parameters", UNICODE, compressed=True), ztxt_chunk("a", b"b"))),
    "jpeg": ("image/jpeg", jpeg(exif({0x0110: "prompt:{}"}, b"UNICODE\0" + FORGE_TEXT.encode("utf-16-be"), ">"))),
    "webp": ("image/webp", picture("WEBP", exif=exif({0x0110: f"prompt:{GRAPH}"}))),
    "avif": ("image/avif", picture("AVIF", exif=exif(user_comment=b"UNICODE\0" + FORGE_TEXT.encode("utf-16-be")))),
    "gif": ("image/gif", picture("GIF", comment=FORGE_TEXT.encode())),
    "mp4": ("video/mp4", mp4(mdta_tags(prompt=GRAPH, workflow=WORKFLOW), itunes_comment("{}"))),
    "webm": ("video/webm", webm(PROMPT=GRAPH) + element(0xEC, bytes(9))),
}


@settings(max_examples=150)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_mutated_files_never_raise_and_give_what_can_be_sent(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    media_type, whole = WHOLE[kind]
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        mutated[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(mutated) // 2, len(mutated)))
    path = tmp_path_factory.getbasetemp() / f"mutated.{media_type.rpartition('/')[2]}"
    path.write_bytes(mutated[:cut])
    run = run_stages(MediaFile(bytes(path), path.name.encode(), cut), STAGES)
    assert run.failures == []
    if run.facts.metadata is not None:
        for text in (run.facts.metadata.prompt, run.facts.metadata.parameters, *run.facts.metadata.loras):
            text.encode("utf-8")
            assert "\0" not in text


@settings(max_examples=200)
@given(st.sampled_from(sorted({media_type for media_type, _ in WHOLE.values()})), st.binary(max_size=300), st.booleans())
def test_random_bytes_never_raise(media_type: str, data: bytes, headed: bool) -> None:
    whole = next(whole for kind, whole in WHOLE.values() if kind == media_type)
    carriers.read_texts(io.BytesIO((whole[:24] if headed else b"") + data), media_type)


@given(st.binary(max_size=200), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_random_exif_never_raises(data: bytes, head: bytes) -> None:
    tiff.read_texts(head + data, Texts())
    tiff.user_comment(data)
