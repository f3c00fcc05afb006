"""Makes tests/golden/pickles: what torch.save writes of the same tensors in each of its formats, and files that
want to be executed. Run once, with torch 2.11:

    python tests/golden/pickles.py tests/golden/pickles
"""

import collections
import os
import sys

import numpy
import torch
from safetensors.torch import save_file

to = sys.argv[1]
torch.manual_seed(0)
base = torch.arange(12.0).view(3, 4)
linear = torch.nn.Linear(3, 2)
tensors = collections.OrderedDict(
    base=base,
    transposed=base.t(),  # shares its storage
    window=base[1:, 1:3],  # begins inside it
    half=torch.randn(3).half(),
    bfloat=torch.randn(2).bfloat16(),
    double=torch.randn(2).double(),
    whole=torch.arange(3),
    truth=torch.tensor([True, False]),
    empty=torch.empty(0, 3),
    scalar=torch.tensor(2.5),
    parameter=torch.nn.Parameter(torch.ones(2)),
)
tensors.update({f"linear.{name}": value for name, value in linear.state_dict().items()})
save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, f"{to}/plain.safetensors")
torch.save(tensors, f"{to}/zip.pt")
torch.save(tensors, f"{to}/stream.pt", _use_new_zipfile_serialization=False)
lightning = {
    "state_dict": tensors,
    "global_step": 470000,
    "epoch": numpy.float64(3.5),
    "callbacks": {"ModelCheckpoint": {"best": None}},
    "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
}
torch.save(lightning, f"{to}/lightning.ckpt")
word = {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 64))}), "name": "word"}
torch.save(word, f"{to}/word.pt")
torch.save(linear, f"{to}/module.pt")
torch.save([1, 2], f"{to}/list.pt")
torch.jit.save(torch.jit.script(linear), f"{to}/script.pt")


class Call:
    def __reduce__(self):
        return os.system, ("touch /tmp/executed",)


torch.save({"a": torch.zeros(2), "b": Call()}, f"{to}/call.pt")
