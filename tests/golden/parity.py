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
import torch
import transformers
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

torch.manual_seed(0)
unet = diffusers.UNet2DConditionModel(
    sample_size=96 if second else 64,
    cross_attention_dim=1024 if second else 768,
    attention_head_dim=[5, 10, 20, 20] if second else 8,
    use_linear_projection=second,
)
vae = diffusers.AutoencoderKL(
    sample_size=768 if second else 512,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
    latent_channels=4,
    scaling_factor=0.18215,
)
text = transformers.CLIPTextModel(
    transformers.CLIPTextConfig(
        vocab_size=49408,
        hidden_size=1024 if second else 768,
        intermediate_size=4096 if second else 3072,
        num_hidden_layers=23 if second else 12,
        num_attention_heads=16 if second else 12,
        hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=0 if second else 49407,
    )
)
# The vocabulary that unsee carries, in CLIPTokenizer's files.
merges = (Path(__file__).parent / "../../src/text/clip_merges.txt").read_text().splitlines()
visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
letters = [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]
words = letters + [f"{letter}</w>" for letter in letters] + ["".join(merge.split()) for merge in merges]
words += ["<|startoftext|>", "<|endoftext|>"]
(out / "tokenizer").mkdir(parents=True, exist_ok=True)
(out / "tokenizer/vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
(out / "tokenizer/merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
tokenizer = transformers.CLIPTokenizer(
    str(out / "tokenizer/vocab.json"),
    str(out / "tokenizer/merges.txt"),
    pad_token="!" if second else "<|endoftext|>",
    model_max_length=77,
)


def strings(n):
    """Prompts of all kinds: words, weights, punctuation, Unicode of every plane, emoji, white space, long ones."""
    chance = random.Random(0)
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

scheduler = diffusers.DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="v_prediction" if second else "epsilon",
)
pipe = diffusers.StableDiffusionPipeline(
    vae, text, tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
)
pipe.set_progress_bar_config(disable=True)
# As files come from the hub: the tokenizer that PIPELINE loads is the one whose ids are compared.
pipe.save_pretrained(out / "model")
for name in ["vocab.json", "merges.txt"]:
    (out / "model/tokenizer" / name).write_bytes((out / "tokenizer" / name).read_bytes())

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
half.save_pretrained(out / "fp16", variant="fp16", max_shard_size="500MB")
half.save_pretrained(out / "bin", safe_serialization=False)
for name in ["fp16", "bin"]:
    for file in ["vocab.json", "merges.txt"]:
        (out / name / "tokenizer" / file).write_bytes((out / "tokenizer" / file).read_bytes())
