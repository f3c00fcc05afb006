"""StyleGAN2 in plain PyTorch, as its public implementations are: grouped convolutions under each picture's own weights,
filters by upfirdn over channels as a batch. Draws and trains with random weights and prints the rows of
examples/gan_speed.rs.

    python benches/peer_gan.py DEVICE SIZE CHANNELS BATCH STEPS
"""

import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

device, size, channels, batch, steps = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
levels = int(math.log2(size))
if channels == "f":
    width, mapping = 512, 8
    at = {level: 512 if level <= 5 else 2 * 16384 // 2**level for level in range(2, levels + 1)}
else:
    width, mapping = 128, 4
    at = dict(zip(range(2, levels + 1), map(int, channels.split(","))))
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True


def kernel():
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    square = row[None] * row[:, None]
    return square / square.sum()


def upfirdn(x, k, up=1, down=1, pad=(0, 0)):
    n, c, h, w = x.shape
    x = x.reshape(n * c, 1, h, 1, w, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(n * c, 1, h * up, w * up)
    x = F.pad(x, [pad[0], pad[1], pad[0], pad[1]])
    x = F.conv2d(x, torch.flip(k, [0, 1])[None, None])[:, :, ::down, ::down]
    return x.reshape(n, c, x.shape[2], x.shape[3])


def activate(x, bias):
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


class Linear(nn.Module):
    def __init__(self, i, o, rate=1.0, bias=0.0, active=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i) / rate)
        self.bias = nn.Parameter(torch.full((o,), bias))
        self.scale, self.rate, self.active = rate / math.sqrt(i), rate, active

    def forward(self, x):
        if self.active:
            return activate(F.linear(x, self.weight * self.scale), self.bias * self.rate)
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Modulated(nn.Module):
    def __init__(self, i, o, k, demodulate=True, up=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, o, i, k, k))
        self.style = Linear(width, i, bias=1.0)
        self.scale, self.k, self.demodulate, self.up = 1 / math.sqrt(i * k * k), k, demodulate, up
        self.register_buffer("blur", kernel() * 4)

    def forward(self, x, w):
        n, i, h, wide = x.shape
        weight = self.scale * self.weight * self.style(w).view(n, 1, i, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        o = weight.shape[1]
        x = x.reshape(1, n * i, h, wide)
        if self.up:
            weight = weight.transpose(1, 2).reshape(n * i, o, self.k, self.k)
            x = F.conv_transpose2d(x, weight, stride=2, groups=n)
            x = x.view(n, o, x.shape[2], x.shape[3])
            return upfirdn(x, self.blur, pad=(1, 1))
        x = F.conv2d(x, weight.view(n * o, i, self.k, self.k), padding=self.k // 2, groups=n)
        return x.view(n, o, x.shape[2], x.shape[3])


class Styled(nn.Module):
    def __init__(self, i, o, up=False):
        super().__init__()
        self.conv = Modulated(i, o, 3, up=up)
        self.noise, self.bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(o))

    def forward(self, x, w):
        x = self.conv(x, w)
        x = x + self.noise * torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device)
        return activate(x, self.bias)


class Colour(nn.Module):
    def __init__(self, i, up=True):
        super().__init__()
        self.conv, self.bias, self.up = Modulated(i, 3, 1, demodulate=False), nn.Parameter(torch.zeros(1, 3, 1, 1)), up
        self.register_buffer("kernel", kernel() * 4)

    def forward(self, x, w, before=None):
        x = self.conv(x, w) + self.bias
        return x if before is None else x + upfirdn(before, self.kernel, up=2, pad=(2, 1))


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.style = nn.Sequential(*[Linear(width, width, 0.01, active=True) for _ in range(mapping)])
        self.input = nn.Parameter(torch.randn(1, at[2], 4, 4))
        self.first, self.colour = Styled(at[2], at[2]), Colour(at[2])
        self.convs, self.colours = nn.ModuleList(), nn.ModuleList()
        for level in range(3, levels + 1):
            self.convs += [Styled(at[level - 1], at[level], up=True), Styled(at[level], at[level])]
            self.colours.append(Colour(at[level]))

    def map(self, z):
        w = self.style(z * torch.rsqrt(z.pow(2).mean(1, keepdim=True) + 1e-8))
        return w[:, None].repeat(1, 2 * levels - 2, 1)

    def forward(self, w):
        x = self.first(self.input.repeat(w.shape[0], 1, 1, 1), w[:, 0])
        rgb = self.colour(x, w[:, 1])
        for k, colour in enumerate(self.colours):
            x = self.convs[2 * k](x, w[:, 2 * k + 1])
            x = self.convs[2 * k + 1](x, w[:, 2 * k + 2])
            rgb = colour(x, w[:, 2 * k + 3], rgb)
        return rgb


class Conv(nn.Module):
    def __init__(self, i, o, k, down=False, active=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i, k, k))
        self.bias = nn.Parameter(torch.zeros(o)) if active else None
        self.scale, self.k, self.down = 1 / math.sqrt(i * k * k), k, down
        self.register_buffer("blur", kernel())

    def forward(self, x):
        if self.down:
            pad = (2, 2) if self.k == 3 else (1, 1)
            x = F.conv2d(upfirdn(x, self.blur, pad=pad), self.weight * self.scale, stride=2)
        else:
            x = F.conv2d(x, self.weight * self.scale, padding=self.k // 2)
        return x if self.bias is None else activate(x, self.bias)


class Block(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.first, self.second = Conv(i, i, 3), Conv(i, o, 3, down=True)
        self.skip = Conv(i, o, 1, down=True, active=False)

    def forward(self, x):
        return (self.second(self.first(x)) + self.skip(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = [Block(at[level], at[level - 1]) for level in range(levels, 2, -1)]
        self.body = nn.Sequential(Conv(3, at[levels], 1), *blocks)
        self.last = Conv(at[2] + 1, at[2], 3)
        self.head = nn.Sequential(Linear(at[2] * 16, at[2], active=True), Linear(at[2], 1))

    def forward(self, x):
        x = self.body(x)
        n, c, h, w = x.shape
        group = min(n, 4)
        deviation = torch.sqrt(x.view(group, -1, 1, c, h, w).var(0, unbiased=False) + 1e-8)
        deviation = deviation.mean([2, 3, 4], keepdim=True).squeeze(2).repeat(group, 1, h, w)
        return self.head(self.last(torch.cat([x, deviation], 1)).flatten(1))


def say(what, value, unit):
    print(json.dumps({"what": what, "value": value, "unit": unit}), flush=True)


def wait():
    if device != "cpu":
        torch.cuda.synchronize()


torch.manual_seed(0)
g, d = Generator().to(device), Discriminator().to(device)
average = Generator().to(device)
with torch.no_grad():
    for n in [1, 16, 64]:
        z = torch.randn(n, width, device=device)
        draw = lambda: ((g(g.map(z)) * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        draw()
        rounds = max(2, min(16, 64 // n))
        wait()
        start = time.perf_counter()
        for _ in range(rounds):
            draw()
        say(f"draw, batch {n}", n * rounds / (time.perf_counter() - start), "pictures/s")

adam = lambda net, every: torch.optim.Adam(
    net.parameters(), lr=2e-3 * every / (every + 1), betas=(0.0, 0.99 ** (every / (every + 1))), fused=True
)
reals = torch.randn(64, 3, size, size, device=device)
styles = lambda n: g.map(torch.randn(n, width, device=device))


def train(adapted=()):
    """Seconds of a step; with adapted models repelled from them by IL2, looked at one after the other at each step."""
    g_adam, d_adam = adam(g, 4), adam(d, 16)
    path = torch.zeros([], device=device)
    for step in range(steps + 1):
        if step == 1:
            wait()
            start = time.perf_counter()
        real = reals[torch.randint(64, (batch,))]
        g.requires_grad_(False), d.requires_grad_(True)
        loss = F.softplus(-d(real)).mean() + F.softplus(d(g(styles(batch)))).mean()
        d_adam.zero_grad(), loss.backward(), d_adam.step()
        if step % 16 == 0:
            real = real.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
            penalty = 5.0 * 16 * slope.pow(2).flatten(1).sum(1).mean()
            d_adam.zero_grad(), penalty.backward(), d_adam.step()
        g.requires_grad_(True), d.requires_grad_(False)
        loss = F.softplus(-d(g(styles(batch)))).mean()
        if adapted:
            own = list(g.parameters())
            square = sum((a - b).pow(2).sum() for other in adapted for a, b in zip(own, other)) / len(adapted)
            loss = loss + 0.1 / square
        g_adam.zero_grad(), loss.backward(), g_adam.step()
        if step % 4 == 0:
            w = styles(max(1, batch // 2))
            drawn = g(w)
            noise = torch.randn_like(drawn) / size
            (slope,) = torch.autograd.grad((drawn * noise).sum(), w, create_graph=True)
            lengths = slope.pow(2).sum(2).mean(1).sqrt()
            mean = path + 0.01 * (lengths.mean() - path)
            path = mean.detach()
            penalty = 2.0 * 4 * (lengths - mean).pow(2).mean()
            g_adam.zero_grad(), penalty.backward(), g_adam.step()
        with torch.no_grad():
            for a, b in zip(average.parameters(), g.parameters()):
                a.lerp_(b, 0.002)
    wait()
    return (time.perf_counter() - start) / steps


if device != "cpu":
    torch.cuda.reset_peak_memory_stats()
else:
    open("/proc/self/clear_refs", "w").write("5")  # the host's peak begins here
say(f"training step, batch {batch}", train(), "s")
peak = torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
say("peak memory of training", peak, "MiB")
for models in [5, 1, 5]:
    adapted = [[own.detach() + 0.01 * torch.randn_like(own) for own in g.parameters()] for _ in range(models)]
    say(f"stage 2 step, {models} adapted, batch {batch}", train(adapted), "s")
