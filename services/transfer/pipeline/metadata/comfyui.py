"""ComfyUI: finds the useful fields by walking the graph that made the file, from the node that saved it.

From the save node back along pictures and latents to the samplers. The first sampler that ran (the last one reached) says seed, steps
and so on: later ones refine, or, as the second of WAN's two, go on with the noise of the first. From that sampler along `model` to the
checkpoint and the LoRAs, along `positive` and `negative` to the texts, and where it is a SamplerCustomAdvanced along its guider, noise,
sampler and sigmas nodes. A value may itself be a link: to a primitive, a text node, a seed node, or through reroutes.

Nodes are known by the names of their inputs rather than by their own: there are thousands of them, and they follow ComfyUI's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mediasync.model import GenerationMetadata
from mediasync.paths import display
from services.transfer.pipeline.formats.jpeg import COMMENT
from services.transfer.pipeline.formats.texts import Texts
from services.transfer.pipeline.metadata import text as safe
from services.transfer.pipeline.metadata.graph import Graph, Node
from services.transfer.pipeline.metadata.graph_texts import conditioning, scalar
from services.transfer.pipeline.stage import MediaFile

_NOT_PICTURES = frozenset(
    {
        "model", "positive", "negative", "clip", "vae", "conditioning", "guider", "sigmas", "noise", "sampler", "clip_vision",
        "clip_vision_output", "control_net", "text_embeds", "upscale_model", "audio", "mask", "seed", "steps", "cfg",
    }
)  # fmt: skip
_MODEL_LINKS = frozenset({"model", "model1", "base_model", "unet", "guider", "pipe", "basic_pipe", "sdxl_tuple", "lora", "prev_lora",
                          "lora_stack", "optional_lora_stack", "ckpt", "model_patch", ""})  # fmt: skip
_MODEL_NAMES = ("ckpt_name", "unet_name", "base_ckpt_name", "model_name", "diffusion_model", "model_path", "gguf_name", "model")
_CONDITIONING_LINKS = frozenset({"positive", "conditioning", "conditioning_1", "conditioning_to", "cond1", ""})
_SIGMAS_LINKS = frozenset({"sigmas", "sigmas_1", "sigmas1", "high_sigmas", ""})
_LORA_NAME = re.compile(r"(?:lora|lora_name|lora_name_\d+|lora_\d+_name|lora_\d+|lora_name\d+)\Z")
_SAVES = re.compile(r"save|videocombine|video_combine|output", re.IGNORECASE)
_PREVIEWS = re.compile(r"preview", re.IGNORECASE)
_FRONTEND = re.compile(r'"frontendVersion": ?"([\w.+-]{1,40})"')
_MAX_TRIED_SAVES = 50


class Graphs(NamedTuple):
    """The two graphs as the file holds them; empty where there is none."""

    prompt: str
    workflow: str


class _Custom(NamedTuple):
    """The nodes that make up a sampler: themselves, or the sampler in each of the roles."""

    noise: Node
    guider: Node
    sampler: Node
    sigmas: Node


def graphs(texts: Texts) -> Graphs:
    """The graphs in a file's texts: tags of their own, or (VideoHelperSuite) both in one JSON comment."""
    prompt, workflow = texts.find("prompt"), texts.find("workflow")
    if not (prompt or workflow):
        comment = safe.load_json(text) if (text := texts.find(COMMENT)).lstrip().startswith("{") else None
        if isinstance(comment, dict):
            prompt, workflow = _as_text(comment.get("prompt")), _as_text(comment.get("workflow"))
    return Graphs(prompt if _is_object(prompt) else "", workflow if _is_object(workflow) else "")


def detect(texts: Texts, file: MediaFile) -> GenerationMetadata | None:
    """What the graph says, if there is one."""
    found = graphs(texts)
    if not (found.prompt or found.workflow):
        return None
    graph = Graph.of(safe.load_json(found.prompt)) if found.prompt else None
    if graph is None:
        return GenerationMetadata("ComfyUI") if found.workflow else None
    return _metadata(graph, _first_sampler(graph, display(file.name)), found.workflow)


def _metadata(graph: Graph, sampler: Node | None, workflow: str) -> GenerationMetadata:
    version = [("frontendVersion", found[1])] if (found := _FRONTEND.search(workflow)) else []
    if sampler is None:
        model, loras = _models(graph, list(graph.nodes.values()))
        return GenerationMetadata(
            "ComfyUI",
            model=safe.model_name(model),
            loras=safe.unique([safe.model_name(name) for name in loras]),
            fields=safe.fields([("Model file", model), *version]),
        )
    parts = _parts(graph, sampler)
    positive = conditioning(graph, parts.guider, "positive")
    negative = conditioning(graph, parts.guider, "negative")
    chain = list(graph.upstream(parts.guider, _MODEL_LINKS | _lora_links(graph)))
    model, loras = _models(graph, chain)
    guides = graph.upstream(parts.guider, _CONDITIONING_LINKS)
    fields = [
        ("Denoise", _number(graph, [parts.sigmas], "denoise")),
        ("Guidance", _number(graph, guides, "guidance")),
        ("Shift", _number(graph, chain, "shift")),
        ("Model file", model),
        *version,
    ]
    return GenerationMetadata(
        generator="ComfyUI",
        prompt=safe.clean(positive, safe.MAX_PROMPT_CHARS),
        negative_prompt=safe.clean(negative, safe.MAX_PROMPT_CHARS),
        model=safe.model_name(model),
        seed=safe.to_seed(scalar(graph, parts.noise, ("noise_seed", "seed"))),
        sampler=_said(graph, parts.sampler, "sampler_name") or ("" if parts.sampler is sampler else safe.clean(parts.sampler.kind)),
        scheduler=_said(graph, parts.sigmas, "scheduler") or ("" if parts.sigmas is sampler else safe.clean(parts.sigmas.kind)),
        steps=safe.to_steps(scalar(graph, parts.sigmas, ("steps",))),
        cfg_scale=safe.to_scale(scalar(graph, parts.guider, ("cfg", "cfg_conds", "guidance_scale"))),
        loras=safe.unique([safe.model_name(name) for name in [*loras, *safe.lora_tags(positive)]]),
        fields=safe.fields(fields),
    )


def _first_sampler(graph: Graph, name: str) -> Node | None:
    """The sampler that ran first on the way to the node that saved a file of this name."""
    for save in _save_nodes(graph, name):
        samplers = [node for node in graph.upstream(save, without=_NOT_PICTURES) if _is_sampler(node)]
        if samplers:
            # One that adds no noise goes on with that of another, whose seed is the one that counts.
            return next((node for node in reversed(samplers) if node.values.get("add_noise") not in ("disable", False)), samplers[-1])
    return next((node for node in graph.nodes.values() if _is_sampler(node)), None)


def _save_nodes(graph: Graph, name: str) -> list[Node]:
    """The nodes that may have saved the file, likeliest first: one whose prefix starts its name, then savers, then previews."""
    ranked = []
    for index, node in enumerate(graph.nodes.values()):
        prefix = re.split(r"[/\\]", node.text("filename_prefix"))[-1].partition("%")[0]
        if _is_sampler(node) or not (prefix or _SAVES.search(node.kind) or _PREVIEWS.search(node.kind)):
            continue
        fits = len(prefix) if prefix and name.startswith(prefix) else 0
        ranked.append((-fits, bool(_PREVIEWS.search(node.kind)), index, node))
    ranked.sort(key=lambda entry: entry[:3])
    return [node for *_, node in ranked[:_MAX_TRIED_SAVES]]


def _is_sampler(node: Node) -> bool:
    """Whether a node turns noise into a picture: it has a seed or a noise node, and says or is told what to make of it."""
    seeded = node.has("seed") or node.has("noise_seed") or "noise" in node.links
    guided = any(name in node.links for name in ("positive", "guider", "text_embeds", "pipe", "basic_pipe", "sdxl_tuple", "conditioning"))
    return seeded and guided and (node.has("steps") or "sigmas" in node.links or "sampler" in node.kind.lower())


def _parts(graph: Graph, sampler: Node) -> _Custom:
    def role(name: str) -> Node:
        return graph.follow(sampler.links.get(name)) or sampler

    sigmas = role("sigmas")
    if sigmas is not sampler:  # through SplitSigmas and the like to the node that knows the steps
        sigmas = next((node for node in graph.upstream(sigmas, _SIGMAS_LINKS) if node.has("steps")), sigmas)
    return _Custom(_through(graph, role("noise")), _through(graph, role("guider")), _through(graph, role("sampler")), sigmas)


def _through(graph: Graph, node: Node) -> Node:
    """Past reroutes, whose one input has no name or none that matters."""
    for _ in range(16):
        if node.kind != "Reroute" or len(node.links) != 1:
            break
        following = graph.follow(next(iter(node.links.values())))
        if following is None:
            break
        node = following
    return node


def _models(graph: Graph, nodes: list[Node]) -> tuple[str, list[str]]:
    """The model's file and the LoRAs among these nodes, nearest to the model first, as they are applied."""
    model = ""
    loras: list[str] = []
    for node in nodes:
        found = _loras(node)
        loras = found + loras
        if not model and not found:
            model = next((name for key in _MODEL_NAMES if (name := _model_file(graph, node, key))), "")
    return model, loras


def _model_file(graph: Graph, node: Node, key: str) -> str:
    value = scalar(graph, node, (key,)) if key != "model" else node.values.get(key)
    if isinstance(value, dict):  # custom loaders with a preview picture: {"content": name, "image": ...}
        value = value.get("content")
    return value if isinstance(value, str) and "upscale" not in node.kind.lower() else ""


def _loras(node: Node) -> list[str]:
    """Names of the LoRAs that a node applies: plain inputs, rgthree's objects with an `on` switch, or a manager's list."""
    if "lora" not in node.kind.lower() and not any("lora" in name for name in node.values):
        return []
    names: list[str] = []
    for key, value in node.values.items():
        if isinstance(value, dict):
            if isinstance(value.get("lora"), str) and value.get("on", True) is True:
                names.append(value["lora"])
            listed = value.get("__value__")
            entries = listed if isinstance(listed, list) else []
            names += [str(entry["name"]) for entry in entries[:64] if isinstance(entry, dict) and entry.get("active") and "name" in entry]
        elif isinstance(value, str) and _LORA_NAME.match(key) and node.values.get(f"switch_{key[-1]}", "On") == "On":
            names.append(value)
    return [name for name in names if name and name.lower() != "none"]


def _lora_links(graph: Graph) -> frozenset[str]:
    """Inputs whose names speak of models or LoRAs, as custom nodes have them (`model_high_noise`)."""
    names = {name for node in graph.nodes.values() for name in node.links}
    return frozenset(name for name in names if "lora" in name.lower() or name.lower().startswith("model"))


def _said(graph: Graph, node: Node, name: str) -> str:
    value = scalar(graph, node, (name,))
    return safe.clean(value, safe.MAX_NAME_CHARS) if isinstance(value, str) else ""


def _number(graph: Graph, nodes: Iterable[Node], name: str) -> str:
    """The number that the first of these nodes with such an input says, as a text."""
    for node in nodes:
        number = safe.to_scale(scalar(graph, node, (name,)))
        if number is not None:
            return f"{number:g}"
    return ""


def _as_text(value: object) -> str:
    """VideoHelperSuite writes one graph as a JSON text within the JSON, the other as an object."""
    if isinstance(value, str):
        return value
    return safe.dump_json(value) if isinstance(value, dict) else ""


def _is_object(text: str) -> bool:
    return text.lstrip()[:1] == "{"
