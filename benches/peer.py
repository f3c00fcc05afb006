"""The peer: what unsee does, in Python with diffusers, on the same weights. Called by bench.sh.

    peer.py generate MODEL N STEPS BATCH DTYPE   draws N pictures; prints seconds a picture, without loading
    peer.py first MODEL DTYPE                    draws one picture and exits: the whole process is timed
    peer.py salun MODEL STEPS BATCH DTYPE        SalUn's training steps; prints seconds a step
    peer.py official MODEL STEPS BATCH DTYPE     the same as the published code does them: three predictions, the network
                                                 its own target, Adam one tensor at a time; prints seconds and MiB
    peer.py advunlearn MODEL STEPS INNER SAMPLING DTYPE
                                                 AdvUnlearn's attacked iterations on the text encoder as the published code
                                                 does them: partial samples drawn anew for each step of the attack, two
                                                 UNets, gradients for all weights; prints seconds an iteration and MiB.
                                                 PEER_PLAN is a JSON file of what is learned where it is not timed alone:
                                                 concept and keep (prompts), lr, warmup, out (a folder for the encoder)
    peer.py rate DTYPE                           the machine's own rate of matrix products, TFLOP/s

PEER_DEVICE=cuda is where it computes, else the CPU.
"""

import copy
import json
import os
import random
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

elif what == "advunlearn":
    steps, inner, sampling, kind = int(rest[0]), int(rest[1]), int(rest[2]), dtype(rest[3])
    pipe = load(torch.float32)
    scheduler, tokenizer, text, unet = pipe.scheduler, pipe.tokenizer, pipe.text_encoder.train(), pipe.unet.train()
    frozen, old_text = copy.deepcopy(unet).requires_grad_(False), copy.deepcopy(text).requires_grad_(False)
    table = text.get_input_embeddings().weight
    for name, parameter in text.named_parameters():
        parameter.requires_grad_("embeddings." not in name)
    plan = {"concept": ["A Cat image in Mosaic style."], "keep": ["A Dog image in Photo style."], "lr": 1e-5, "warmup": 0}
    if "PEER_PLAN" in os.environ:
        plan |= json.load(open(os.environ["PEER_PLAN"]))
    adam = torch.optim.Adam([p for p in text.parameters() if p.requires_grad], lr=plan["lr"])
    size, channels = unet.config.sample_size, unet.config.in_channels
    scheduler.set_timesteps(sampling)
    stride = 1000 // sampling

    def ids(prompts):
        length = tokenizer.model_max_length
        return tokenizer(prompts, padding="max_length", max_length=length, return_tensors="pt").input_ids.to(device)

    def encoded(embeddings):
        """The encoder over vectors of tokens; its own lookup is stood in for."""
        hook = text.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
        states = text(torch.zeros(embeddings.shape[:2], dtype=torch.long, device=device))[0]
        hook.remove()
        return states

    @torch.no_grad()
    def partial(states, empty):
        """Latents and the timestep that the networks are told: DDIM with guidance up to a random step."""
        n = len(states)
        end = int(torch.randint(0, sampling, ()))
        both, z = torch.cat([empty.expand_as(states), states]), torch.randn(n, channels, size, size, device=device)
        for t in scheduler.timesteps[1 : sampling - end if end > 1 else sampling]:
            without, with_prompt = frozen(torch.cat([z, z]), t, both).sample.float().chunk(2)
            z = scheduler.step(without + 3 * (with_prompt - without), t, z).prev_sample
        return z, torch.full((n,), stride * end, device=device) + int(torch.randint(0, stride, ()))

    with torch.no_grad():
        empty = old_text(ids([""]))[0]

    def step(iteration):
        words, others = ids([random.choice(plan["concept"])]), ids(random.choices(plan["keep"], k=5))
        with torch.no_grad():
            concept, kept = old_text(words)[0], old_text(others)[0]
        free = table[torch.randint(0, len(table), (1, 1), device=device)].detach().clone().requires_grad_(True)
        attack = torch.optim.Adam([free], lr=1e-3)
        vectors = table[words].detach()
        attacks = iteration >= plan["warmup"]
        attacked = lambda: encoded(torch.cat([vectors[:, :1], free, vectors[:, 1:-1]], 1) if attacks else vectors)
        for _ in range(inner if attacks else 0):
            z, t = partial(concept, empty)
            with torch.no_grad():
                target = frozen(z, t, concept).sample.float()
            (unet(z, t, attacked()).sample.float() - target).square().mean().backward()
            attack.step()
        adam.zero_grad()
        z, t = partial(concept, empty)
        zr, _ = partial(kept, empty)
        tr = t.expand(5)
        with torch.no_grad():
            e0, ep, er = (frozen(*inputs).sample.float() for inputs in ((z, t, empty), (z, t, concept), (zr, tr, kept)))
        free = free.detach()
        forget = (unet(z, t, attacked()).sample.float() - (e0 - (ep - e0))).square().mean()
        retain = (unet(zr, tr, text(others)[0]).sample.float() - er).square().mean()
        (forget + 0.3 * retain).backward()
        adam.step()

    def once(iteration):
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=kind is torch.bfloat16):
            step(iteration)

    learns = "out" in plan
    if not learns:
        once(0)
    start = now()
    for iteration in range(steps):
        once(iteration)
    if learns:
        text.save_pretrained(plan["out"])
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
