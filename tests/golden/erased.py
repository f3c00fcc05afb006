"""Puts what unsee's methods changed onto a model with Python's diffusers and draws one picture each; see ../diffusers.rs.

    python tests/golden/erased.py BASE OUT EDIT...

An edit is a LoRA, which diffusers loads, or full tensors by name, `unet.…`, as `load_state_dict` takes them. OUT gets
`NAME.png` for each, and `base.png`.
"""

import pathlib
import sys

import torch
from diffusers import StableDiffusionPipeline as Pipeline
from safetensors.torch import load_file

base, out, *edits = (pathlib.Path(path) for path in sys.argv[1:])
torch.set_num_threads(1)


def draw(pipe, name):
    pipe.set_progress_bar_config(disable=True)
    side = pipe.unet.config.sample_size
    latents = torch.randn((1, pipe.unet.config.in_channels, side, side), generator=torch.Generator().manual_seed(3))
    picture = pipe("A Cat image in Mosaic style.", num_inference_steps=5, guidance_scale=2.0, latents=latents)
    picture.images[0].save(out / f"{name}.png")


draw(Pipeline.from_pretrained(base, torch_dtype=torch.float32), "base")
for edit in edits:
    pipe = Pipeline.from_pretrained(base, torch_dtype=torch.float32)
    tensors = load_file(edit)
    if any("lora_down" in name for name in tensors):
        pipe.load_lora_weights(edit.parent, weight_name=edit.name)
    else:
        unet = {name.removeprefix("unet."): tensor for name, tensor in tensors.items()}
        assert not pipe.unet.load_state_dict(unet, strict=False).unexpected_keys
    draw(pipe, edit.stem)
