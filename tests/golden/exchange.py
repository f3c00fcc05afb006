"""Loads what unsee exports with Python's diffusers and draws one picture with each; see ../diffusers.rs.

    python tests/golden/exchange.py FOLDER SINGLE_FILE CONFIG BASE LORA

Prints a JSON object: the largest differences of the single file's and of the LoRA's picture from the folder's, and of
the base's, in 255ths; the LoRA's is null where peft is not installed.
"""

import json
import sys

import numpy
import torch
from diffusers import StableDiffusionPipeline as Pipeline

folder, single, config, base, lora = sys.argv[1:]
torch.set_num_threads(1)


def draw(pipe):
    pipe.set_progress_bar_config(disable=True)
    shape = (1, pipe.unet.config.in_channels, pipe.unet.config.sample_size, pipe.unet.config.sample_size)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    image = pipe("A Cat image in Mosaic style.", num_inference_steps=5, guidance_scale=2.0, latents=latents).images[0]
    return numpy.asarray(image).astype(int)


def apart(a, b):
    return int(abs(a - b).max())


f32 = dict(torch_dtype=torch.float32)
wanted = draw(Pipeline.from_pretrained(folder, **f32))
found = draw(Pipeline.from_single_file(single, config=config, local_files_only=True, **f32))
pipe = Pipeline.from_pretrained(base, **f32)
result = {"single_file": apart(found, wanted), "base": apart(draw(pipe), wanted), "lora": None}
try:
    import peft  # noqa: F401

    pipe.load_lora_weights(lora)
    result["lora"] = apart(draw(pipe), wanted)
except ImportError:
    pass
print(json.dumps(result))
