"""The peer: what unsee does, in Python with diffusers, on the same weights. Called by bench.sh.

    peer.py generate MODEL N STEPS BATCH DTYPE   draws N pictures; prints seconds a picture, without loading
    peer.py first MODEL DTYPE                    draws one picture and exits: the whole process is timed
    peer.py salun MODEL STEPS BATCH DTYPE        SalUn's training steps; prints seconds a step
    peer.py official MODEL STEPS BATCH DTYPE     the same as the published code does them: three predictions, the network
                                                 its own target, Adam one tensor at a time; prints seconds and MiB
    peer.py rate DTYPE                           the machine's own rate of matrix products, TFLOP/s

PEER_DEVICE=cuda is where it computes, else the CPU.
"""

import os
import sys
import time

import torch
from diffusers import StableDiffusionPipeline

what, model, *rest = sys.argv[1:]
device = os.environ.get("PEER_DEVICE", "cpu")
cuda = device.startswith("cuda")


def now():
    if cuda:
        torch.cuda.synchronize()
    return time.time()


def load(dtype):
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if cuda:
        torch.backends.cudnn.benchmark = True
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    return pipe.to(device)


def dtype(name):
    return {"f32": torch.float32, "bf16": torch.bfloat16}[name]


if what == "generate":
    n, steps, batch, kind = int(rest[0]), int(rest[1]), int(rest[2]), dtype(rest[3])
    pipe = load(kind)
    prompts = ["A Cat image in Mosaic style."] * batch

    def draw(count):
        for _ in range(0, count, batch):
            generators = [torch.Generator().manual_seed(i) for i in range(batch)]
            pipe(prompts, num_inference_steps=steps, guidance_scale=2.0, generator=generators)

    draw(batch)
    start = now()
    draw(n)
    print((now() - start) / n)

elif what == "first":
    load(dtype(rest[0]))("A Cat image in Mosaic style.", num_inference_steps=20, guidance_scale=2.0).images[0].save(
        "/dev/null", format="png"
    )

elif what == "salun":
    steps, batch, kind = int(rest[0]), int(rest[1]), dtype(rest[2])
    pipe = load(torch.float32)
    unet, scheduler = pipe.unet.train(), pipe.scheduler
    frozen = pipe.unet.__class__.from_config(unet.config)
    frozen.load_state_dict(unet.state_dict())
    frozen.requires_grad_(False)
    masks = [torch.rand_like(p) < 0.5 for p in unet.parameters()]
    adam = torch.optim.Adam(unet.parameters(), lr=1e-4, fused=True)
    size = unet.config.sample_size
    text = torch.randn(batch, pipe.tokenizer.model_max_length, unet.config.cross_attention_dim)

    def noisy():
        clean, noise = torch.randn(2, batch, unet.config.in_channels, size, size)
        t = torch.randint(0, 1000, (batch,))
        return scheduler.add_noise(clean, noise, t), t, noise

    def step():
        z, t, _ = noisy()
        zr, tr, noise = noisy()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind is torch.bfloat16):
            with torch.no_grad():
                target = frozen(z, t, text).sample.float()
            out = unet(torch.cat([z, zr]), torch.cat([t, tr]), torch.cat([text, text])).sample.float()
        forget, remain = out.chunk(2)
        loss = (forget - target).square().mean() + (remain - noise).square().mean()
        adam.zero_grad()
        loss.backward()
        for p, mask in zip(unet.parameters(), masks):
            p.grad.mul_(mask)
        adam.step()

    for _ in range(3):
        step()
    start = time.time()
    for _ in range(steps):
        step()
    print((time.time() - start) / steps)

elif what == "official":
    steps, batch, kind = int(rest[0]), int(rest[1]), dtype(rest[2])
    pipe = load(torch.float32)
    unet, scheduler = pipe.unet.train(), pipe.scheduler
    unet.enable_gradient_checkpointing()  # as the published configuration has it
    masks = [(torch.rand_like(p) < 0.5) for p in unet.parameters()]
    adam = torch.optim.Adam(unet.parameters(), lr=1e-5, foreach=False)
    size = unet.config.sample_size
    text = torch.randn(batch, pipe.tokenizer.model_max_length, unet.config.cross_attention_dim, device=device)

    def sample():
        clean, noise = torch.randn(2, batch, unet.config.in_channels, size, size, device=device)
        t = torch.randint(0, 1000, (batch,), device=device)
        return scheduler.add_noise(clean, noise, t), t, noise

    def predict(z, t):
        return unet(z, t, text).sample.float()

    def step():
        z, t, _ = sample()
        zr, tr, noise = sample()
        adam.zero_grad()
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=kind is torch.bfloat16):
            remain = (predict(zr, tr) - noise).square().mean()
            forget = (predict(z, t) - predict(z, t).detach()).square().mean()
        (forget + 0.5 * remain).backward()
        for p, mask in zip(unet.parameters(), masks):
            p.grad *= mask
        adam.step()

    for _ in range(2):
        step()
    start = now()
    for _ in range(steps):
        step()
    print((now() - start) / steps, torch.cuda.max_memory_allocated() / 2**20 if cuda else 0)

elif what == "rate":
    kind = dtype(model)
    n = 8192 if cuda else 1024
    a, b = torch.randn(2, n, n, device=device, dtype=kind)
    for _ in range(5):
        a @ b
    start = now()
    for _ in range(20):
        a @ b
    print(f"{20 * 2 * n**3 / (now() - start) / 1e12:.1f}")
