"""What generators write beside the pixels: A1111's text as Forge has it, and ComfyUI's graphs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from demo.drawing import PALETTES, Palette

_SUBJECTS = (
    "rolling hills", "a quiet valley", "terraced rice fields", "a mountain ridge", "dunes", "a far coast", "an alpine pass",
    "a wide moor", "volcanic slopes", "a river delta",
)  # fmt: skip
_STYLES = ("oil painting", "matte painting", "35mm photo", "watercolour", "concept art", "ukiyo-e print", "low poly render")
_MODELS = (
    ("sd_xl_base_1.0", "31e35c80fc"),
    ("juggernautXL_v9", "c9e3e68f89"),
    ("dreamshaperXL_turbo", "676f0d60c8"),
    ("realvisxl_v4", "912c9dc74f"),
)
_SAMPLERS = (("DPM++ 2M", "Karras"), ("Euler a", "Automatic"), ("DPM++ SDE", "Karras"), ("UniPC", "Simple"))
_NEGATIVE = "lowres, watermark, text, jpeg artifacts"
_FORGE_VERSION = "f2.0.1v1.10.1-previous-664-gd557aef9"

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Idea:
    """One picture that somebody asked for."""

    prompt: str
    palette: Palette
    seed: int

    @classmethod
    def of(cls, chance: random.Random) -> Idea:
        """Another one."""
        palette = chance.choice(PALETTES)
        prompt = f"{chance.choice(_SUBJECTS)} {palette.word}, {chance.choice(_STYLES)}, highly detailed"
        return cls(prompt, palette, chance.randrange(2**32))


def forge_text(chance: random.Random, idea: Idea, size: tuple[int, int], *, image_to_image: bool = False) -> str:
    """`parameters` as Forge writes them."""
    (model, model_hash), (sampler, schedule) = chance.choice(_MODELS), chance.choice(_SAMPLERS)
    lora = chance.random() < 0.25
    settings = [
        f"Steps: {chance.choice((20, 25, 28, 30))}", f"Sampler: {sampler}", f"Schedule type: {schedule}",
        f"CFG scale: {chance.choice((4.5, 5, 7))}",
        f"Seed: {idea.seed}", f"Size: {size[0]}x{size[1]}", f"Model hash: {model_hash}", f"Model: {model}",
    ]  # fmt: skip
    if image_to_image:
        settings.append("Denoising strength: 0.55")
    elif chance.random() < 0.2:
        settings += ["Denoising strength: 0.4", "Hires upscale: 1.5", "Hires steps: 12", "Hires upscaler: 4x-UltraSharp"]
    if lora:
        settings.append('Lora hashes: "wide_vistas_v2: 5b1f2c3d4e6a"')
    settings.append(f"Version: {_FORGE_VERSION}")
    prompt = f"{idea.prompt}, <lora:wide_vistas_v2:0.7>" if lora else idea.prompt
    return f"{prompt}\nNegative prompt: {_NEGATIVE}\n{', '.join(settings)}"


def sdxl_graph(chance: random.Random, idea: Idea, size: tuple[int, int], prefix: str) -> Graph:
    """ComfyUI's plain text-to-image graph."""
    model = f"{chance.choice(_MODELS)[0]}.safetensors"
    return {
        "3": _node(
            "KSampler", seed=idea.seed * 65537, steps=chance.choice((20, 25, 30)), cfg=7, sampler_name="dpmpp_2m",
            scheduler="karras", denoise=1,
            model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "4": _node("CheckpointLoaderSimple", ckpt_name=model),
        "5": _node("EmptyLatentImage", width=size[0], height=size[1], batch_size=1),
        "6": _node("CLIPTextEncode", text=idea.prompt, clip=["4", 1]),
        "7": _node("CLIPTextEncode", text=_NEGATIVE, clip=["4", 1]),
        "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": _node("SaveImage", filename_prefix=prefix, images=["8", 0]),
    }  # fmt: skip


def flux_graph(chance: random.Random, idea: Idea, size: tuple[int, int], prefix: str) -> Graph:
    """A graph for Flux, whose sampler is made of several nodes."""
    return {
        "6": _node("CLIPTextEncode", text=idea.prompt, clip=["11", 0]),
        "8": _node("VAEDecode", samples=["13", 0], vae=["10", 0]),
        "9": _node("SaveImage", filename_prefix=prefix, images=["8", 0]),
        "10": _node("VAELoader", vae_name="ae.safetensors"),
        "11": _node("DualCLIPLoader", clip_name1="t5xxl_fp8_e4m3fn.safetensors", clip_name2="clip_l.safetensors", type="flux"),
        "12": _node("UNETLoader", unet_name="flux1-dev-fp8.safetensors", weight_dtype="default"),
        "13": _node(
            "SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0], latent_image=["27", 0]
        ),
        "16": _node("KSamplerSelect", sampler_name="euler"),
        "17": _node("BasicScheduler", scheduler="simple", steps=chance.choice((20, 24)), denoise=1, model=["12", 0]),
        "22": _node("BasicGuider", model=["12", 0], conditioning=["26", 0]),
        "25": _node("RandomNoise", noise_seed=idea.seed * 65537),
        "26": _node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
        "27": _node("EmptySD3LatentImage", width=size[0], height=size[1], batch_size=1),
    }


def workflow(graph: Graph) -> dict[str, Any]:
    """The same graph as the UI saves it: nodes with places and widgets, and links between them."""
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    for index, (key, node) in enumerate(graph.items()):
        inputs = []
        for slot, (name, value) in enumerate(node["inputs"].items()):
            if isinstance(value, list):
                links.append([len(links) + 1, int(value[0]), value[1], int(key), slot, name.upper()])
                inputs.append({"name": name, "type": name.upper(), "link": len(links)})
        widgets = [value for value in node["inputs"].values() if not isinstance(value, list)]
        place = {"pos": [320 * (index % 4), 240 * (index // 4)], "size": [300, 200], "order": index, "mode": 0}
        nodes.append({"id": int(key), "type": node["class_type"], **place, "inputs": inputs, "widgets_values": widgets})
    return {"last_node_id": max(map(int, graph)), "last_link_id": len(links), "nodes": nodes, "links": links, "groups": [], "version": 0.4}


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"inputs": inputs, "class_type": kind, "_meta": {"title": kind}}
