"""Makes golden.json: what diffusers and transformers compute, for networks whose weights follow a formula.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.23.0 safetensors numpy scipy
    python tests/golden/make.py > tests/golden/golden.json

The formula: parameter number j (names sorted) has the value a * sin(0.7 * i + 1.3 * j + 0.2) at flat
index i, with a = 0.5 / sqrt(inputs of one output) for matrices and 0.1 for vectors; weights of norms get 1 added.
"""

import json
import math
import sys

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

torch.set_num_threads(1)


def wave(shape, phase, scale=1.0):
    n = math.prod(shape)
    values = scale * np.sin(0.7 * np.arange(n, dtype=np.float64) + phase)
    return torch.tensor(values.astype(np.float32)).reshape(shape)


def fill(model):
    named = {k: v for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    for j, name in enumerate(sorted(named)):
        p = named[name]
        inputs = math.prod(p.shape[1:])
        scale = 0.5 / math.sqrt(inputs) if p.dim() > 1 else 0.1
        value = wave(tuple(p.shape), 1.3 * j + 0.2, scale)
        if "norm" in name and name.endswith("weight"):
            value = value + 1
        with torch.no_grad():
            p.copy_(value)
    return model.eval()


def told(x):
    x = x.detach().flatten().double()
    return {"sum": x.sum().item(), "abs": x.abs().sum().item(), "first": x[:8].tolist(), "shape": None}


def tensor(x):
    return {**told(x), "shape": list(x.shape)}


out = {}
ids = torch.tensor([[90, 3, 17, 91, 91, 91, 91, 91], [90, 5, 6, 7, 8, 9, 10, 91]])

TEXT = dict(
    vocab_size=92, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=8, bos_token_id=90, eos_token_id=91, pad_token_id=91,
)
for act in ("quick_gelu", "gelu"):
    config = dict(TEXT, hidden_act=act)
    # transformers 5 leaves out `text_model.`; the names are sorted alike with and without it.
    model = fill(CLIPTextModel(CLIPTextConfig(**config)))
    out[f"text {act}"] = {"config": config, "hidden": tensor(model(ids).last_hidden_state)}

config = dict(
    text_config=dict(TEXT, hidden_act="quick_gelu"),
    vision_config=dict(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=16,
        patch_size=8, hidden_act="quick_gelu",
    ),
    projection_dim=20,
)
clip = fill(CLIPModel(CLIPConfig(**config)))
answer = clip(input_ids=ids, pixel_values=wave((3, 3, 16, 16), 0.4))
out["clip"] = {
    "config": config, "image": tensor(answer.image_embeds), "text": tensor(answer.text_embeds),
    "logits": tensor(answer.logits_per_image),
}

UNETS = {
    "unet 1.x": dict(attention_head_dim=4, use_linear_projection=False),
    "unet 2.x": dict(attention_head_dim=[2, 4, 8], use_linear_projection=True),
}
for name, extra in UNETS.items():
    config = dict(
        sample_size=12, in_channels=4, out_channels=4, block_out_channels=[32, 64, 64],
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        layers_per_block=2, cross_attention_dim=32, norm_num_groups=16, flip_sin_to_cos=True, freq_shift=0,
        **extra,
    )
    unet = fill(UNet2DConditionModel(**config))
    y = unet(wave((2, 4, 12, 12), 0.1), torch.tensor([1, 801]), wave((2, 8, 32), 0.5)).sample
    out[name] = {"config": config, "output": tensor(y)}

config = dict(
    in_channels=3, out_channels=3, latent_channels=4, block_out_channels=[16, 32],
    down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    layers_per_block=1, norm_num_groups=8, scaling_factor=0.18215,
)
vae = fill(AutoencoderKL(**config))
moments = vae.encode(wave((2, 3, 16, 16), 0.3)).latent_dist
out["vae"] = {
    "config": config, "mean": tensor(moments.mean), "logvar": tensor(moments.logvar),
    "decoded": tensor(vae.decode(wave((2, 4, 8, 8), 0.9)).sample),
}

# Samplers: the network is y = 0.6 x + 0.3 sin(t / 100 + k), k the flat index. Ancestral noise is drawn from seed 7.
base = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SOLVERS = {
    "ddim": (DDIMScheduler, dict(clip_sample=False, set_alpha_to_one=False)),
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True)),
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "dpm++karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "lms": (LMSDiscreteScheduler, {}),
}


def sample(kind, cls, config, steps):
    scheduler = cls(**config)
    scheduler.set_timesteps(steps)
    x = wave((1, 4, 3, 3), 0.2, 2.0) * scheduler.init_noise_sigma
    k = torch.arange(x.numel(), dtype=torch.float64).reshape(x.shape)
    generator = torch.Generator().manual_seed(7)
    more = dict(generator=generator) if kind == "euler_a" else {}
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t)
        y = (0.6 * shown.double() + 0.3 * torch.sin(t.double() / 100 + k)).float()
        x = scheduler.step(y, t, x, **more).prev_sample
    return {
        "solver": kind, "steps": steps, "config": config,
        "timesteps": [float(t) for t in scheduler.timesteps], "latents": tensor(x),
    }


cases = []
for kind, (cls, own) in SOLVERS.items():
    for prediction in ("epsilon", "v_prediction"):
        for spacing in ("leading", "trailing", "linspace", None):
            for steps in (5, 20):
                config = dict(base, prediction_type=prediction, steps_offset=1, **own)
                if spacing:
                    config["timestep_spacing"] = spacing
                if spacing == "trailing":
                    config["steps_offset"] = 0
                if kind == "ddim" and spacing == "linspace":
                    config |= dict(clip_sample=True, set_alpha_to_one=True)
                if kind == "pndm" and spacing == "linspace":
                    config["set_alpha_to_one"] = True
                cases.append(sample(kind, cls, config, steps))
    # What is left of the last step's signal, and Karras' levels for the solvers that may have them.
    if kind in ("ddim", "dpm++", "euler", "euler_a"):
        config = dict(base, prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True, **own)
        cases.append(sample(kind, cls, config, 20))
    if kind in ("euler", "heun", "lms"):
        for steps in (5, 20):
            cases.append(sample(kind, cls, dict(base, use_karras_sigmas=True, **own), steps))
out["samplers"] = cases
vision = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
checker = fill(StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=12)))
pictures = wave((6, 3, 32, 32), 0.4) * torch.linspace(0.2, 3.0, 6).view(6, 1, 1, 1) + wave((6, 3, 1, 1), 2.0)
with torch.no_grad():
    features = checker.visual_projection(checker.vision_model(pictures)[1])
    special = cosine_distance(features, checker.special_care_embeds) - checker.special_care_embeds_weights
    concepts = cosine_distance(features, checker.concept_embeds) - checker.concept_embeds_weights
    flags = []
    # The formula's thresholds are low; raised like this some pictures stay below.
    for stricter, higher in [(0.0, 0.0), (0.3, 0.2375), (0.253, 0.2476), (0.2, 0.2476), (0.3, 0.3)]:
        checker.special_care_embeds_weights += stricter
        checker.concept_embeds_weights += higher
        flagged = checker(pictures, [torch.zeros(1) for _ in range(6)])[1]
        flags.append({"special": stricter, "concepts": higher, "flagged": flagged})
        checker.special_care_embeds_weights -= stricter
        checker.concept_embeds_weights -= higher
out["safety checker"] = {
    "config": {"vision_config": vision, "projection_dim": 12},
    "special": tensor(special),
    "concepts": tensor(concepts),
    "highest": [special.max(1).values.tolist(), concepts.max(1).values.tolist()],
    "flags": flags,
}

json.dump(out, sys.stdout, indent=1)
