"""Makes searches.json: what plain PyTorch computes of searches over prompts, on a small Stable Diffusion whose weights
follow make.py's formula.

    python tests/golden/searches.py > tests/golden/searches.json
"""

import json
import math

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

torch.set_num_threads(1)
# In f64, so that only one side rounds: Adam divides small gradients by their own size, errors and all.
torch.set_default_dtype(torch.float64)


def wave(shape, phase, scale=1.0):
    values = scale * np.sin(0.7 * np.arange(math.prod(shape), dtype=np.float64) + phase)
    return torch.tensor(values.astype(np.float32).astype(np.float64)).reshape(shape)


def fill(model):
    named = {k: v for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    for j, name in enumerate(sorted(named)):
        p = named[name]
        scale = 0.5 / math.sqrt(math.prod(p.shape[1:])) if p.dim() > 1 else 0.1
        value = wave(tuple(p.shape), 1.3 * j + 0.2, scale)
        if "norm" in name and name.endswith("weight"):
            value = value + 1
        with torch.no_grad():
            p.copy_(value)
    return model.eval().requires_grad_(False)


TEXT = dict(vocab_size=515, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
TEXT |= dict(max_position_embeddings=8, hidden_act="quick_gelu", layer_norm_eps=1e-5, bos_token_id=513, eos_token_id=514)
UNET = dict(sample_size=8, in_channels=4, out_channels=4, block_out_channels=[8, 16], layers_per_block=1)
UNET |= dict(down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"])
UNET |= dict(cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4)
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)

text = fill(CLIPTextModel(CLIPTextConfig(**TEXT)))
unet = fill(UNet2DConditionModel(**UNET))
schedule = DDIMScheduler(**SCHEDULE)
table = text.get_input_embeddings().weight
tower = getattr(text, "text_model", text)

# «ab b» and «b ab» behind two free tokens: start, free, free, word, word, end, filling.
AB, B, START, END = 512, 321, 513, 514
IDS = torch.tensor([[START, 0, 0, AB, B, END, END, END], [START, 0, 0, B, AB, END, END, END]])


def encode(vectors):
    """The text encoder on vectors of tokens."""
    n = vectors.shape[1]
    hidden = vectors + tower.embeddings.position_embedding.weight[:n]
    mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
    for layer in tower.encoder.layers:
        hidden = layer(hidden, attention_mask=mask)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return tower.final_layer_norm(hidden)


def filled(free):
    vectors = table[IDS].clone()
    return torch.cat([vectors[:, :1], free, vectors[:, 3:]], 1)


def errors(free, noisy, timesteps, target):
    output = unet(noisy, timesteps, encoder_hidden_states=encode(filled(free))).sample
    return (output - target).square().mean((1, 2, 3))


def told(x):
    x = x.detach().flatten().double()
    return {"sum": x.sum().item(), "abs": x.abs().sum().item(), "first": x[:12].tolist()}


NOISY, TARGET, STEPS = wave((2, 4, 8, 8), 0.4), wave((2, 4, 8, 8), 1.9), torch.tensor([100, 700])


def prediction():
    free = wave((2, 2, 16), 0.6, 0.3).requires_grad_(True)
    found = errors(free, NOISY, STEPS, TARGET)
    found.sum().backward()
    return {"errors": found.tolist(), "gradient": told(free.grad)}


def soft(update):
    """Five steps of projected gradient descent; by sign at most 0.02 from where they began."""
    begin = wave((2, 2, 16), 0.6, 0.3)
    free = begin.clone().requires_grad_(True)
    adam = torch.optim.Adam([free], lr=1e-2)
    for step in range(5):
        noisy = wave((2, 4, 8, 8), 0.4 + step)
        adam.zero_grad()
        errors(free, noisy, STEPS, TARGET).sum().backward()
        if update == "adam":
            adam.step()
        else:
            with torch.no_grad():
                free -= 1e-2 * free.grad.sign()
                free.copy_(begin + (free - begin).clamp(-0.02, 0.02))
    return told(free)


def project(rows):
    """By bisection, as UnlearnDiffAtk's code does it."""
    low, high = rows.max(-1, keepdim=True).values - 1.0, rows.max(-1, keepdim=True).values
    for _ in range(60):
        middle = (low + high) / 2
        more = (rows - middle).clamp_min(0).sum(-1, keepdim=True) > 1
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return (rows - (low + high) / 2).clamp_min(0)


def block():
    """Four steps of UnlearnDiffAtk at timestep 510, with noise and draws of a formula; all words but start and end."""
    words = torch.arange(513)
    weights = torch.full((2, 2, 513), 1 / 513, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.01, weight_decay=0.1)
    clean, timesteps, drawn, path = wave((2, 4, 8, 8), 2.2), torch.tensor([510, 510]), [], []
    for step in range(4):
        uniforms = (wave((2, 2), 0.9 + step) + 1) / 2
        sums = weights.detach().cumsum(-1)
        chosen = (sums <= uniforms[..., None] * sums[..., -1:]).sum(-1).clamp_max(512)
        drawn.append(chosen.flatten().tolist())
        hard = torch.nn.functional.one_hot(chosen, 513).double().requires_grad_(True)
        noise = wave((2, 4, 8, 8), 1.4 + step)
        noisy = schedule.add_noise(clean, noise, timesteps)
        errors(hard @ table[words], noisy, timesteps, noise).sum().backward()
        weights.grad = hard.grad.clamp(-1, 1)
        adam.step()
        with torch.no_grad():
            weights.copy_(project(weights))
        path.append(told(weights))
    return {"drawn": drawn, "weights": path, "likeliest": weights.argmax(-1).flatten().tolist()}


def nearest():
    unit = torch.nn.functional.normalize
    cosines = unit(wave((2, 3, 16), 0.8), dim=-1) @ unit(table[:513], dim=-1).T
    return cosines.argmax(-1).flatten().tolist()


def bell():
    """Ring-A-Bell: what «ab» adds to hidden states, and how far lists of two words are from «b» and three times that."""
    states = lambda *prompts: encode(table[torch.tensor([([START, *p] + [END] * 8)[:8] for p in prompts])])
    vector = (states([AB, B], [B, AB]) - states([B], [B, B])).mean(0)
    apart = states(*([first, second] for first in (AB, B) for second in (AB, B))) - (states([B])[0] + 3 * vector)
    return {"vector": told(vector[1:]), "distances": apart.square().sum((1, 2)).tolist()}


rows = wave((3, 2, 20), 0.5, 0.8)
print(
    json.dumps(
        {
            "text": TEXT,
            "unet": UNET,
            "schedule": SCHEDULE,
            "prediction": prediction(),
            "soft": {update: soft(update) for update in ["adam", "sign"]},
            "simplex": project(rows).flatten().tolist(),
            "block": block(),
            "nearest": nearest(),
            "bell": bell(),
        },
        indent=1,
    )
)
