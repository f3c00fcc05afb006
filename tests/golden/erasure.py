"""Makes erasure.json: what plain PyTorch computes of UCE's closed form and of ESD's target, on numbers of a formula.

    python tests/golden/erasure.py > tests/golden/erasure.json

The formula: number i of a matrix with phase p is sin(0.7 * i + p).
"""

import json
import math

import torch

torch.set_num_threads(1)


def wave(rows, columns, phase):
    values = [math.sin(0.7 * i + phase) for i in range(rows * columns)]
    return torch.tensor(values, dtype=torch.float64).reshape(rows, columns)


def uce(lamb, erase, preserve):
    w, c, g, p = wave(4, 6, 0.1), wave(3, 6, 0.5), wave(3, 6, 1.1), wave(5, 6, 2.3)
    left, right = lamb * w, lamb * torch.eye(6, dtype=torch.float64)
    for i in range(3):
        left = left + erase * torch.outer(w @ g[i], c[i])
        right = right + erase * torch.outer(c[i], c[i])
    for j in range(5):
        left = left + preserve * torch.outer(w @ p[j], p[j])
        right = right + preserve * torch.outer(p[j], p[j])
    return (left @ torch.linalg.inv(right)).flatten().tolist()


def esd(eta):
    begin, concept, empty, output = (wave(2, 5, phase) for phase in (0.3, 0.9, 1.7, 2.9))
    output.requires_grad_(True)
    target = begin - eta * (concept - empty)
    loss = torch.nn.functional.mse_loss(output, target)
    loss.backward()
    return {
        "target": target.flatten().tolist(),
        "loss": loss.item(),
        "gradient": output.grad.flatten().tolist(),
    }


print(
    json.dumps(
        {
            "uce": [
                {"lambda": lamb, "erase": erase, "preserve": preserve, "weight": uce(lamb, erase, preserve)}
                for lamb, erase, preserve in [(0.5, 1.0, 1.0), (0.1, 2.0, 0.5), (1.0, 1.0, 0.0)]
            ],
            "esd": [{"eta": eta, **esd(eta)} for eta in [0.0, 1.0, 2.5]],
        },
        indent=1,
    )
)
