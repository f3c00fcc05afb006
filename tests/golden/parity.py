"""Makes a full-size Stable Diffusion with random weights and what Python's diffusers computes with it, for
../parity.rs (`make parity`):

    python tests/golden/parity.py sd15|sd21 OUT [SIDE]

OUT/model is a diffusers folder with the published configuration, OUT/fp16 the same in 16 bits, sharded, OUT/bin with
pickles; OUT/reference.safetensors holds inputs and outputs of each network and pictures [3, SIDE, SIDE] of each sampler.
"""

import json
import random
import sys
from pathlib import Path

import diffusers
import random_sd
import torch
from safetensors.torch import save_file

version, out = sys.argv[1], Path(sys.argv[2])
side = int(sys.argv[3]) if len(sys.argv) > 3 else 128
second = version == "sd21"
PROMPTS = ["a photograph of an astronaut riding a horse", ""]
STEPS, GUIDANCE, SEED = 20, 7.5, 4290749014
SAMPLERS = {
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "heun": ("HeunDiscreteScheduler", {}),
}

pipe = random_sd.build(version, out / "tokenizer")
text, unet, vae, tokenizer, scheduler = pipe.text_encoder, pipe.unet, pipe.vae, pipe.tokenizer, pipe.scheduler
random_sd.save(pipe, out / "model")


def strings(n):
    """Prompts of all kinds: words, weights, punctuation, Unicode of every plane, emoji, white space, long ones."""
    chance = random.Random(0)
    words = random_sd.vocabulary()[0]
    vocabulary = [word.replace("</w>", "") for word in words if word.isascii() and word.isprintable()]
    emoji = ["😀", "👩‍🚀", "🏳️‍🌈", "❤️", "👍🏽", "🇫🇷", "🐱", "✨"]
    marks = list(".,:;!?'\"()[]{}<>|/\\@#$%^&*-_=+~`") + ["'s", "'ll", "n't", "...", "--", "(word:1.2)", "((x))", "[y]"]
    planes = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xE00), (0x1100, 0x1200)]
    planes += [(0x2000, 0x2070), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF)]

    def piece():
        kind = chance.random()
        if kind < 0.6:
            word = chance.choice(vocabulary)
            return word.upper() if kind < 0.05 else word.title() if kind < 0.1 else word
        if kind < 0.7:
            return chance.choice(marks)
        if kind < 0.75:
            return f"({chance.choice(vocabulary)}:{chance.random() * 2:.2f})"
        if kind < 0.8:
            return chance.choice(emoji)
        if kind < 0.85:
            return str(chance.randrange(10**6))
        low, high = chance.choice(planes)
        return "".join(chr(chance.randrange(low, high)) for _ in range(chance.randrange(1, 6)))

    space = [" "] * 8 + ["", "  ", "\n", "\t", "\u00a0", "\u3000", ", "]
    for _ in range(n):
        length = chance.choice([1, 2, 5, 10, 20, 100])
        yield "".join(piece() + chance.choice(space) for _ in range(length))


if not second:
    prompts = ["", " ", "<|endoftext|>", "<|startoftext|>a", *strings(25_000)]
    ids = [tokenizer(p, truncation=True, max_length=77).input_ids for p in prompts]
    (out / "strings.json").write_text(json.dumps(list(zip(prompts, ids))))

# As a scheduler is loaded: every value of the file counts. In memory, `from_config` forgets those that were defaults.
config = json.loads((out / "model/scheduler/scheduler_config.json").read_text())
found = {}
with torch.no_grad():
    ids = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    found["ids"] = ids
    found["text"] = text(ids).last_hidden_state
    size = 96 if second else 64
    latent = torch.randn((1, 4, size, size), generator=torch.Generator().manual_seed(1))
    found["latent"], found["timestep"] = latent, torch.tensor([601.0])
    found["prediction"] = unet(latent, 601, found["text"][:1]).sample
    picture = torch.rand((1, 3, 512, 512), generator=torch.Generator().manual_seed(2)) * 2 - 1
    found["picture"] = picture
    found["moments"] = vae.encode(picture).latent_dist.parameters
    found["decoded"] = vae.decode(latent[:, :, :64, :64].contiguous()).sample
    for name, (kind, options) in SAMPLERS.items():
        pipe.scheduler = getattr(diffusers, kind).from_config(config, **options)
        generator = torch.Generator().manual_seed(SEED)
        latents = torch.randn((1, 4, side // 8, side // 8), generator=generator)
        image = pipe(
            PROMPTS[0], height=side, width=side, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=latents,
            generator=generator, output_type="np",
        ).images[0]
        found[f"image.{name}"] = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        print(version, name, flush=True)
save_file(found, out / "reference.safetensors")

pipe.scheduler = scheduler
half = pipe.to(torch.float16)
random_sd.save(half, out / "fp16", variant="fp16", max_shard_size="500MB")
random_sd.save(half, out / "bin", safe_serialization=False)
