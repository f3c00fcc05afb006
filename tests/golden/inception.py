"""Makes tests/golden/inception.json: features of pytorch-fid's Inception-v3 under weights that follow a formula, and a
Fréchet distance. Run once, with torch 2.11, torchvision and pytorch-fid 0.3:

    python tests/golden/inception.py tests/golden/inception.json
"""

import json
import sys

import numpy as np
import torch
import torchvision
from pytorch_fid import inception
from pytorch_fid.fid_score import calculate_frechet_distance


def unit(k, n):
    """n numbers of unit variance from the k-th stream: SplitMix64 over a counter."""
    with np.errstate(over="ignore"):
        z = np.uint64(k << 32) + np.arange(n, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.sqrt(3.0) * (2.0 * ((z >> np.uint64(11)).astype(np.float64) / 2.0**53) - 1.0)


def weights(state):
    values = {}
    for k, name in enumerate(sorted(state), start=1):
        shape = list(state[name].shape)
        x = unit(k, int(np.prod(shape))).astype(np.float32).reshape(shape)
        if name.endswith("conv.weight"):
            x = x * np.float32(np.sqrt(2.0 / np.prod(shape[1:])))
        elif name.endswith("bn.weight"):
            x = 1 + np.float32(0.1) * x
        elif name.endswith("running_var"):
            x = 1 + np.float32(0.2) * x
        else:
            x = np.float32(0.1) * x
        values[name] = torch.from_numpy(x.astype(np.float32))
    return values


# Without the download of the published weights: they are the formula's.
inception.load_state_dict_from_url = lambda *_, **__: {}
load = torch.nn.Module.load_state_dict
torch.nn.Module.load_state_dict = lambda self, state, *a, **k: load(self, state, strict=False)
network = inception.fid_inception_v3()
torch.nn.Module.load_state_dict = load
state = {
    name: value
    for name, value in network.state_dict().items()
    if not name.endswith("num_batches_tracked") and not name.startswith(("AuxLogits", "fc"))
}
values = weights(state)
network.load_state_dict(values, strict=False)
inception.fid_inception_v3 = lambda: network
block = inception.InceptionV3([3]).eval()


def pictures(k, n, h, w):
    bytes_ = np.floor((unit(k, n * h * w * 3) / (2 * np.sqrt(3.0)) + 0.5) * 256).clip(0, 255).astype(np.uint8)
    smooth = bytes_.reshape(n, h, w, 3).astype(np.float32)
    return torch.from_numpy(smooth).permute(0, 3, 1, 2) / 255


with torch.no_grad():
    a = block(pictures(5000, 3, 40, 32))[0].squeeze(3).squeeze(2)
flat = a.flatten().double()
at = [[i, flat[i].item()] for i in range(0, flat.numel(), flat.numel() // 24)]
rng = np.random.default_rng(0)
x, y = unit(6000, 60 * 8).reshape(60, 8), unit(6001, 50 * 8).reshape(50, 8) * 1.5 + 0.3
moments = lambda z: (z.mean(0), np.cov(z, rowvar=False))
distance = calculate_frechet_distance(*moments(x), *moments(y))
json.dump(
    {
        "names": {name: list(value.shape) for name, value in sorted(values.items())},
        "features": {"shape": list(a.shape), "mean": flat.mean().item(), "std": flat.std(unbiased=False).item(), "at": at},
        "distance": float(distance),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    },
    open(sys.argv[1], "w"),
)
print(a.shape, flat.mean(), flat.std(), distance)
