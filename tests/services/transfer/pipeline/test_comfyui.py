"""Walking ComfyUI's graphs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.model import GenerationMetadata
from services.transfer.pipeline.formats.texts import Texts
from services.transfer.pipeline.metadata import comfyui
from services.transfer.pipeline.metadata.graph import MAX_NODES, Graph
from services.transfer.pipeline.stage import MediaFile
from tests.fixtures.media import text_to_image

Nodes = dict[str, Any]


def node(kind: str, **inputs: Any) -> Nodes:
    return {"class_type": kind, "inputs": inputs}


def read(graph: Any, name: str = "ComfyUI_00001_.png", **texts: str) -> GenerationMetadata:
    carried = Texts()
    carried.add("prompt", graph if isinstance(graph, str) else json.dumps(graph))
    for key, value in texts.items():
        carried.add(key, value)
    found = comfyui.detect(carried, MediaFile(b"/library/" + name.encode(), name.encode(), 1))
    assert found is not None
    return found


def test_the_first_example_gives_every_field() -> None:
    assert read(text_to_image(), workflow='{"extra": {"frontendVersion": "1.24.4"}}') == GenerationMetadata(
        generator="ComfyUI",
        prompt="a glass bottle, galaxy inside",
        negative_prompt="text, watermark",
        model="v1-5-pruned-emaonly",
        seed=156680208700286,
        sampler="euler",
        scheduler="normal",
        steps=20,
        cfg_scale=8.0,
        fields=(("Denoise", "1"), ("Model file", "v1-5-pruned-emaonly.safetensors"), ("frontendVersion", "1.24.4")),
    )


def test_flux_is_read_through_guider_noise_sampler_and_sigmas() -> None:
    found = read(
        {
            "13": node(
                "SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0], latent_image=["27", 0]
            ),
            "25": node("RandomNoise", noise_seed=18446744073709551615),
            "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
            "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
            "6": node("CLIPTextEncodeFlux", clip_l="a red fox", t5xxl="a red fox", guidance=3.5, clip=["11", 0]),
            "16": node("KSamplerSelect", sampler_name="euler"),
            "17": node("BasicScheduler", scheduler="simple", steps=24, denoise=1, model=["30", 0]),
            "30": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, model=["31", 0]),
            "31": node("LoraLoaderModelOnly", lora_name="flux/realism.safetensors", strength_model=1, model=["12", 0]),
            "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
            "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
            "9": node("SaveImage", filename_prefix="Flux", images=["8", 0]),
        },
        "Flux_00001_.png",
    )
    assert (found.seed, found.sampler, found.scheduler, found.steps) == (2**64 - 1, "euler", "simple", 24)
    assert (found.prompt, found.negative_prompt, found.model, found.loras) == ("a red fox", "", "flux1-dev", ("realism",))
    assert dict(found.fields)["Guidance"] == "3.5"


def test_a_cfg_guider_has_both_texts_and_the_scale() -> None:
    found = read(
        {
            "1": node("SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sampler=["4", 0], sigmas=["5", 0], latent_image=["9", 0]),
            "2": node("RandomNoise", noise_seed=7),
            "3": node("CFGGuider", model=["6", 0], positive=["7", 0], negative=["8", 0], cfg=4.5),
            "4": node("SamplerEulerAncestral", eta=1),
            "5": node("SplitSigmas", sigmas=["10", 0], step=3),
            "10": node("KarrasScheduler", steps=12, sigma_max=14.6),
            "6": node("CheckpointLoaderSimple", ckpt_name="SDXL\\base.safetensors"),
            "7": node("CLIPTextEncode", text="day", clip=["6", 1]),
            "8": node("CLIPTextEncode", text="night", clip=["6", 1]),
            "20": node("SaveImage", filename_prefix="ComfyUI", images=["21", 0]),
            "21": node("VAEDecode", samples=["1", 1]),
        }
    )
    assert (found.prompt, found.negative_prompt, found.cfg_scale, found.steps) == ("day", "night", 4.5, 12)
    assert (found.sampler, found.scheduler, found.model) == ("SamplerEulerAncestral", "KarrasScheduler", "base")


def test_reroutes_between_a_sampler_and_its_parts_are_passed_over() -> None:
    graph = text_to_image()
    graph["3"] = node(
        "SamplerCustomAdvanced", noise=["30", 0], guider=["32", 0], sampler=["99", 0], sigmas=["35", 0], latent_image=["5", 0]
    )
    graph |= {
        "30": node("Reroute", **{"": ["31", 0]}),
        "31": node("RandomNoise", noise_seed=8),
        "32": node("Reroute", **{"": ["33", 0]}),
        "33": node("CFGGuider", model=["34", 0], positive=["6", 0], negative=["7", 0], cfg=2),
        "34": node("Reroute", **{"": ["4", 0]}),
        "35": node("Reroute", **{"": ["36", 0]}),
        "36": node("BasicScheduler", scheduler="beta", steps=15, denoise=1, model=["34", 0]),
    }
    found = read(graph)
    assert (found.seed, found.cfg_scale, found.steps, found.scheduler) == (8, 2.0, 15, "beta")
    assert (found.model, found.prompt, found.sampler) == ("v1-5-pruned-emaonly", "a glass bottle, galaxy inside", "")


def test_sampler_custom_has_seed_and_scale_itself_and_the_rest_in_nodes() -> None:
    graph = text_to_image()
    graph["3"] = node(
        "SamplerCustom", add_noise=True, noise_seed=11, cfg=6, model=["4", 0], positive=["6", 0], negative=["7", 0],
        sampler=["30", 0], sigmas=["31", 0], latent_image=["5", 0],
    )  # fmt: skip
    graph |= {"30": node("KSamplerSelect", sampler_name="lcm"), "31": node("SDTurboScheduler", steps=4, denoise=1, model=["4", 0])}
    found = read(graph)
    assert (found.seed, found.cfg_scale, found.sampler, found.steps) == (11, 6.0, "lcm", 4)


def wan() -> Nodes:
    shared = {"cfg": 1, "sampler_name": "euler", "scheduler": "simple", "positive": ["98", 0], "negative": ["98", 1], "steps": 4}
    return {
        "85": node("KSamplerAdvanced", **shared, add_noise="disable", noise_seed=0, model=["103", 0], latent_image=["86", 0]),
        "86": node("KSamplerAdvanced", **shared, add_noise="enable", noise_seed=206275406212235, model=["104", 0], latent_image=["98", 2]),
        "87": node("VAEDecode", samples=["85", 0], vae=["90", 0]),
        "89": node("CLIPTextEncode", text="static, blurry", clip=["84", 0]),
        "93": node("CLIPTextEncode", text="a dragon turns its head", clip=["84", 0]),
        "95": node("UNETLoader", unet_name="wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors"),
        "96": node("UNETLoader", unet_name="wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors"),
        "98": node("WanImageToVideo", positive=["93", 0], negative=["89", 0], vae=["90", 0], start_image=["97", 0], width=640),
        "101": node("LoraLoaderModelOnly", lora_name="lightx2v_high.safetensors", model=["95", 0]),
        "103": node("ModelSamplingSD3", shift=5, model=["96", 0]),
        "104": node("ModelSamplingSD3", shift=5, model=["101", 0]),
        "94": node("CreateVideo", fps=16, images=["87", 0]),
        "108": node("SaveVideo", filename_prefix="video/WanVideo2_2_I2V", format="auto", video=["94", 0]),
    }


def test_of_wans_two_samplers_the_one_that_adds_the_noise_counts() -> None:
    found = read(wan(), "WanVideo2_2_I2V_00001_.mp4")
    assert (found.seed, found.model) == (206275406212235, "wan2.2_i2v_high_noise_14B_fp8_scaled")
    assert (found.prompt, found.negative_prompt) == ("a dragon turns its head", "static, blurry")
    assert (found.loras, dict(found.fields)["Shift"]) == (("lightx2v_high",), "5")


def test_wan_wrapper_nodes_keep_both_texts_in_one() -> None:
    found = read(
        {
            "1": node("WanVideoSampler", model=["2", 0], text_embeds=["3", 0], steps=6, cfg=1, shift=8, seed=43, scheduler="unipc"),
            "2": node("WanVideoModelLoader", model="WAN\\wan2.1_t2v_14B.safetensors", lora=["4", 0]),
            "3": node("WanVideoTextEncode", positive_prompt="waves", negative_prompt="calm", t5=["5", 0]),
            "4": node("WanVideoLoraSelect", lora="CausVid.safetensors", strength=0.5),
            "6": node("WanVideoDecode", samples=["1", 0]),
            "7": node("VHS_VideoCombine", filename_prefix="AnimateDiff", images=["6", 0]),
        },
        "AnimateDiff_00001.mp4",
    )
    assert (found.prompt, found.negative_prompt, found.model, found.loras) == ("waves", "calm", "wan2.1_t2v_14B", ("CausVid",))
    assert (found.seed, found.steps, found.scheduler) == (43, 6, "unipc")


def test_of_a_high_resolution_pass_the_first_sampler_counts() -> None:
    graph = text_to_image()
    graph |= {
        "10": node("LatentUpscale", samples=["3", 0], width=1024),
        "11": node("KSampler", **{**graph["3"]["inputs"], "seed": 5, "denoise": 0.4, "latent_image": ["10", 0]}),
    }
    graph["8"]["inputs"]["samples"] = ["11", 0]
    assert read(graph).seed == 156680208700286


def test_values_are_followed_through_primitives_reroutes_and_text_nodes() -> None:
    graph = text_to_image(seed=["20", 0], steps=["21", 0])
    graph |= {
        "20": node("Seed (rgthree)", seed=99),
        "21": node("Reroute", **{"": ["22", 0]}),
        "22": node("PrimitiveInt", value=33),
        "23": node("StringConcatenate", string_a=["24", 0], string_b="at night", delimiter=", "),
        "24": node("PrimitiveStringMultiline", value="a city"),
        "25": node("ShowText|pysssss", text=["26", 0], text_0="what was shown"),
        "26": node("LlmPrompt", prompt="a template"),
    }
    graph["6"]["inputs"]["text"] = ["23", 0]
    graph["7"]["inputs"]["text"] = ["25", 0]
    found = read(graph)
    assert (found.seed, found.steps) == (99, 33)
    assert (found.prompt, found.negative_prompt) == ("at night, a city", "what was shown")


def test_combined_conditionings_give_all_their_texts() -> None:
    graph = text_to_image()
    graph["3"]["inputs"] |= {"positive": ["30", 0], "negative": ["34", 0]}
    graph |= {
        "30": node("ConditioningCombine", conditioning_1=["31", 0], conditioning_2=["33", 0]),
        "31": node("Reroute", **{"": ["32", 0]}),
        "32": node("ConditioningSetTimestepRange", conditioning=["6", 0], start=0, end=0.5),
        "33": node("CLIPTextEncodeSDXL", text_g="wide view", text_l="crisp", width=1024),
        "34": node("ConditioningZeroOut", conditioning=["6", 0]),
    }
    found = read(graph)
    assert found.prompt == "a glass bottle, galaxy inside\nwide view\ncrisp"
    assert found.negative_prompt == ""


def test_a_control_net_hands_each_role_to_its_own_output() -> None:
    graph = text_to_image()
    graph["3"]["inputs"] |= {"positive": ["30", 0], "negative": ["30", 1]}
    graph["30"] = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["31", 0], image=["32", 0])
    found = read(graph)
    assert (found.prompt, found.negative_prompt) == ("a glass bottle, galaxy inside", "text, watermark")


def test_a_pipe_carries_both_roles() -> None:
    graph = text_to_image()
    graph["3"] = node("ImpactKSamplerBasicPipe", basic_pipe=["30", 0], seed=3, steps=9, cfg=2, sampler_name="ddim", latent_image=["5", 0])
    graph["30"] = node("ToBasicPipe", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0])
    found = read(graph)
    assert (found.prompt, found.negative_prompt) == ("a glass bottle, galaxy inside", "text, watermark")
    assert (found.model, found.seed) == ("v1-5-pruned-emaonly", 3)


def test_a_loader_with_texts_of_its_own_is_read_by_role() -> None:
    found = read(
        {
            "1": node(
                "Efficient Loader", ckpt_name="dream.safetensors", lora_name="None", positive="sun", negative="rain", lora_stack=["4", 0]
            ),
            "2": node(
                "KSampler (Efficient)", seed=1, steps=2, cfg=3, model=["1", 0], positive=["1", 1], negative=["1", 2], latent_image=["1", 3]
            ),
            "3": node("SaveImage", filename_prefix="ComfyUI", images=["2", 5]),
            "4": node("CR LoRA Stack", switch_1="On", lora_name_1="a.safetensors", switch_2="Off", lora_name_2="b.safetensors"),
        }
    )
    assert (found.prompt, found.negative_prompt, found.model, found.loras) == ("sun", "rain", "dream", ("a",))


def test_loras_come_in_the_order_in_which_they_are_applied_and_only_if_switched_on() -> None:
    graph = text_to_image(model=["40", 0])
    graph |= {
        "40": node("LoraLoader", lora_name="second.safetensors", model=["41", 0], clip=["4", 1]),
        "41": node(
            "Power Lora Loader (rgthree)",
            model=["42", 0],
            lora_1={"on": True, "lora": "first.safetensors", "strength": 1},
            lora_2={"on": False, "lora": "off.safetensors", "strength": 1},
        ),
        "42": node("Lora Loader (LoraManager)", model=["4", 0], loras={"__value__": [{"name": "zeroth", "active": True}, {"name": "x"}]}),
    }
    assert read(graph).loras == ("zeroth", "first", "second")


def test_with_several_save_nodes_the_one_whose_prefix_the_file_has_counts() -> None:
    graph = text_to_image("portraits/%date%_face")
    graph["9"]["inputs"]["filename_prefix"] = "portraits/face_%date%"
    other = {str(100 + int(key)): value for key, value in json.loads(json.dumps(text_to_image("city", seed=2))).items()}
    for value in other.values():
        value["inputs"] = {
            name: [str(100 + int(item[0])), item[1]] if isinstance(item, list) else item for name, item in value["inputs"].items()
        }
    both = {**other, **graph}
    assert read(both, "face_2026_00001_.png").seed == 156680208700286
    assert read(both, "city_00001_.png").seed == 2


def test_a_checkpoint_with_a_preview_picture_is_an_object_with_its_name() -> None:
    graph = text_to_image()
    graph["4"] = node("CheckpointLoader|pysssss", ckpt_name={"content": "anime/mix.ckpt", "image": None})
    assert read(graph).model == "mix"


def test_a_bare_nan_and_an_escaped_nul_are_tolerated() -> None:
    text = json.dumps(text_to_image()).replace('"class_type": "KSampler"', '"is_changed": [NaN], "class_type": "KSampler"', 1)
    found = read(text.replace("galaxy inside", "galaxy\\u0000 inside"))
    assert (found.prompt, found.seed) == ("a glass bottle, galaxy inside", 156680208700286)


def test_a_workflow_alone_tells_the_generator() -> None:
    texts = Texts()
    texts.add("workflow", '{"nodes": []}')
    assert comfyui.detect(texts, MediaFile(b"/a.png", b"a.png", 1)) == GenerationMetadata("ComfyUI")


def test_a_graph_without_a_sampler_still_tells_the_model() -> None:
    graph = {"4": text_to_image()["4"], "9": node("SaveImage", images=["4", 0])}
    assert read(graph).model == "v1-5-pruned-emaonly"


def test_a_cycle_ends() -> None:
    graph = text_to_image()
    graph["5"] = node("LatentUpscale", samples=["8", 0])
    graph["8"]["inputs"]["samples"] = ["3", 0]
    graph["6"]["inputs"] = {"text": ["50", 0], "clip": ["4", 1]}
    graph["50"] = node("Text", text=["51", 0])
    graph["51"] = node("Text", text=["50", 0])
    graph["4"]["inputs"] = {"model": ["4", 0]}
    graph["3"]["inputs"]["seed"] = ["52", 0]
    graph["52"] = node("Reroute", **{"": ["52", 0]})
    found = read(graph)
    assert (found.prompt, found.seed, found.steps) == ("", None, 20)


def test_a_graph_made_to_be_slow_is_not() -> None:
    layers = {
        f"{layer}": node("ConditioningCombine", **{f"conditioning_{n}": [str(layer + 1), 0] for n in range(30)}) for layer in range(3000)
    }
    graph = {
        "s": node("KSampler", seed=["0", 0], steps=1, positive=["0", 0], negative=["0", 0], model=["0", 0], latent_image=["0", 0]),
        **layers,
    }
    start = time.process_time()
    read(graph)
    assert time.process_time() - start < 5


def test_a_graph_is_cut_at_its_bound_of_nodes() -> None:
    graph = Graph.of({str(number): node("Note") for number in range(MAX_NODES + 10)})
    assert graph is not None
    assert len(graph.nodes) == MAX_NODES


names = st.sampled_from(
    ["positive", "negative", "model", "samples", "seed", "steps", "text", "guider", "noise", "sigmas", "", "pipe", "lora"]
)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3),
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)).map(list),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)  # fmt: skip
kinds = st.sampled_from(["KSampler", "SamplerCustomAdvanced", "SaveImage", "Reroute", "LoraLoader", "CLIPTextEncode"])
nodes = st.fixed_dictionaries({"class_type": kinds, "inputs": st.dictionaries(names, values, max_size=8)})


@given(st.dictionaries(st.sampled_from("abcdef"), nodes, min_size=1))
def test_no_graph_raises(graph: Nodes) -> None:
    found = read(json.dumps(graph))
    assert found.generator == "ComfyUI"
    found.prompt.encode("utf-8")


@pytest.mark.parametrize("text", ["{", "{}", '{"a": ' * 100_000, "[" * 100_000, '{"a": {"class_type": 1, "inputs": []}}', "{" + "1" * 5000])
def test_what_is_no_graph_is_left_alone(text: str) -> None:
    carried = Texts()
    carried.add("prompt", text)
    assert comfyui.detect(carried, MediaFile(b"/a.png", b"a.png", 1)) is None
