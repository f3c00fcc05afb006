"""Draws the prompts of a CSV with Python diffusers, from the latents that unsee uses, and saves the model again
into OUT/model as Python saves it; see ../diffusers.rs.

    python tests/golden/draw.py MODEL PROMPTS.csv STEPS GUIDANCE OUT NAME=CLASS[+karras] ...

Pictures go to OUT/NAME/{row}_0.png.
"""

import csv
import sys
from pathlib import Path

import diffusers
import torch

model, prompts, steps, guidance, out, *samplers = sys.argv[1:]
torch.set_num_threads(1)
pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
channels, size = pipe.unet.config.in_channels, pipe.unet.config.sample_size
pipe.save_pretrained(f"{out}/model")
config = pipe.scheduler.config
for sampler in samplers:
    name, kind = sampler.split("=")
    kind, _, karras = kind.partition("+")
    pipe.scheduler = getattr(diffusers, kind).from_config(config, **(dict(use_karras_sigmas=True) if karras else {}))
    Path(out, name).mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(csv.DictReader(open(prompts, newline=""))):
        generator = torch.Generator("cpu").manual_seed(int(row["evaluation_seed"]))
        latents = torch.randn((1, channels, size, size), generator=generator)
        image = pipe(
            row["prompt"], num_inference_steps=int(steps), guidance_scale=float(guidance), latents=latents,
            generator=generator,
        ).images[0]
        image.save(f"{out}/{name}/{i}_0.png")
