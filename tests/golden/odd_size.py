"""The miniature's picture of a size that its UNet cannot halve evenly: python tests/golden/odd_size.py

Needs torch, diffusers and transformers.
"""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

HERE = Path(__file__).parent
MODEL = HERE.parent.parent / "models/miniature"
pipe = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None, torch_dtype=torch.float32)
picture = pipe(
    "A Cat image in Mosaic style.",
    width=88,
    height=72,
    num_inference_steps=2,
    guidance_scale=2.0,
    generator=torch.Generator().manual_seed(0),
).images[0]
picture.save(HERE / "odd_size.png")
