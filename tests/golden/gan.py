"""Makes tests/golden/gan: a small StyleGAN2 in the files that people have, each number its place in its tensor and a
hash of its name. Run once, with torch 2.11:

    python tests/golden/gan.py tests/golden/gan

rosinality's checkpoints are dictionaries of state dicts, with optimizers and arguments beside them (zip and the older
stream). NVIDIA's are pickles of modules by themselves, with the modules' source code and a stream for each storage.
"""

import argparse
import os
import pickle
import sys
import types
import zlib

import torch

to = sys.argv[1]
os.makedirs(to, exist_ok=True)
SIZE, WIDTH, LAYERS, CHANNELS = 16, 6, 2, {4: 5, 8: 4, 16: 3}


# StyleGAN2's filter; its files hold it beside the weights, with the gain of where it is used.
FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def numbers(name, shape):
    if name.endswith(".kernel"):
        return FILTER * (1 if "conv2" in name or "skip" in name else 4)
    count = 1
    for n in shape:
        count *= n
    start = zlib.crc32(name.encode()) % 1000
    return (torch.arange(count, dtype=torch.float32) / 7 + start).reshape(shape)


def shapes():
    g, d = {}, {}
    for i in range(1, LAYERS + 1):
        g[f"style.{i}.weight"], g[f"style.{i}.bias"] = (WIDTH, WIDTH), (WIDTH,)
    g["input.input"] = (1, CHANNELS[4], 4, 4)

    def conv(name, inputs, outputs):
        g[f"{name}.conv.weight"] = (1, outputs, inputs, 3, 3)
        g[f"{name}.conv.modulation.weight"], g[f"{name}.conv.modulation.bias"] = (inputs, WIDTH), (inputs,)
        g[f"{name}.noise.weight"], g[f"{name}.activate.bias"] = (1,), (outputs,)

    def colour(name, inputs):
        g[f"{name}.bias"], g[f"{name}.conv.weight"] = (1, 3, 1, 1), (1, 3, inputs, 1, 1)
        g[f"{name}.conv.modulation.weight"], g[f"{name}.conv.modulation.bias"] = (inputs, WIDTH), (inputs,)

    conv("conv1", CHANNELS[4], CHANNELS[4])
    colour("to_rgb1", CHANNELS[4])
    for k, side in enumerate([8, 16]):
        conv(f"convs.{2 * k}", CHANNELS[side // 2], CHANNELS[side])
        g[f"convs.{2 * k}.conv.blur.kernel"] = (4, 4)
        conv(f"convs.{2 * k + 1}", CHANNELS[side], CHANNELS[side])
        colour(f"to_rgbs.{k}", CHANNELS[side])
        g[f"to_rgbs.{k}.upsample.kernel"] = (4, 4)
    for i, side in enumerate([4, 8, 8, 16, 16]):
        g[f"noises.noise_{i}"] = (1, 1, side, side)
    d["convs.0.0.weight"], d["convs.0.1.bias"] = (CHANNELS[16], 3, 1, 1), (CHANNELS[16],)
    for i, side in [(1, 16), (2, 8)]:
        inputs, outputs = CHANNELS[side], CHANNELS[side // 2]
        d[f"convs.{i}.conv1.0.weight"], d[f"convs.{i}.conv1.1.bias"] = (inputs, inputs, 3, 3), (inputs,)
        d[f"convs.{i}.conv2.0.kernel"] = (4, 4)
        d[f"convs.{i}.conv2.1.weight"], d[f"convs.{i}.conv2.2.bias"] = (outputs, inputs, 3, 3), (outputs,)
        d[f"convs.{i}.skip.0.kernel"], d[f"convs.{i}.skip.1.weight"] = (4, 4), (outputs, inputs, 1, 1)
    last = CHANNELS[4]
    d["final_conv.0.weight"], d["final_conv.1.bias"] = (last, last + 1, 3, 3), (last,)
    d["final_linear.0.weight"], d["final_linear.0.bias"] = (last, last * 16), (last,)
    d["final_linear.1.weight"], d["final_linear.1.bias"] = (1, last), (1,)
    return g, d


def filled(named, mark=""):
    return {name: numbers(mark + name, shape) for name, shape in named.items()}


g, d = shapes()
ema = filled(g)
raw = filled(g, "raw.")
# What Adapt_Unlearn's files carry beside the weights.
raw["convs__0__conv__weight__1_fisher"] = torch.ones(2)
optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
optimizer.step()
checkpoint = {
    "g": raw,
    "d": filled(d),
    "g_ema": ema,
    "g_optim": optimizer.state_dict(),
    "d_optim": optimizer.state_dict(),
    "args": argparse.Namespace(size=SIZE, lr=0.002, path="somewhere"),
    "latent_avg": numbers("latent_avg", (WIDTH,)),
    "ada_aug_p": 0.0,
}
torch.save(checkpoint, f"{to}/zip.pt")
torch.save(checkpoint, f"{to}/stream.pt", _use_new_zipfile_serialization=False)
torch.save({f"module.{name}": value for name, value in ema.items()}, f"{to}/bare.pt")

# NVIDIA's modules, rebuilt from what their pickles hold; the class is never needed to read them.
package, persistence = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")
sys.modules["torch_utils"], sys.modules["torch_utils.persistence"] = package, persistence


def _reconstruct_persistent_obj(meta):
    raise RuntimeError("only for the name")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
SOURCE = "open('/tmp/executed', 'w').write('x')\n"


class Module:
    def __init__(self, name, parameters=None, buffers=None, modules=None, **rest):
        wrap = lambda named: {k: v if v is None else v for k, v in (named or {}).items()}
        parameters = {k: torch.nn.Parameter(v) for k, v in wrap(parameters).items()}
        self.meta = dict(type="class", version=6, module_src=SOURCE, class_name=name)
        self.meta["state"] = dict(
            training=False, _parameters=parameters, _buffers=wrap(buffers), _modules=modules or {}, **rest
        )

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


def layer(name, noise, clamp=256):
    t = lambda suffix: ema[f"{name}.{suffix}"]
    affine = Module("FullyConnectedLayer", dict(weight=t("conv.modulation.weight"), bias=t("conv.modulation.bias")))
    return Module(
        "SynthesisLayer",
        # Some of NVIDIA's weights do not lie row after row.
        dict(
            weight=t("conv.weight")[0].contiguous(memory_format=torch.channels_last),
            noise_strength=t("noise.weight")[0],
            bias=t("activate.bias"),
        ),
        dict(noise_const=ema[f"noises.noise_{noise}"][0, 0], resample_filter=FILTER),
        dict(affine=affine),
        conv_clamp=clamp,
    )


def torgb(name):
    t = lambda suffix: ema[f"{name}.{suffix}"]
    affine = Module("FullyConnectedLayer", dict(weight=t("conv.modulation.weight"), bias=t("conv.modulation.bias")))
    parameters = dict(weight=t("conv.weight")[0], bias=t("bias").view(3))
    return Module("ToRGBLayer", parameters, None, dict(affine=affine), conv_clamp=256)


fcs = {
    f"fc{i}": Module("FullyConnectedLayer", dict(weight=ema[f"style.{i + 1}.weight"], bias=ema[f"style.{i + 1}.bias"]))
    for i in range(LAYERS)
}
mapping = Module("MappingNetwork", None, dict(w_avg=numbers("latent_avg", (WIDTH,))), fcs)
blocks = {
    "b4": Module("SynthesisBlock", dict(const=ema["input.input"][0]), None, dict(conv1=layer("conv1", 0), torgb=torgb("to_rgb1")))
}
for k, side in enumerate([8, 16]):
    modules = dict(conv0=layer(f"convs.{2 * k}", 2 * k + 1), conv1=layer(f"convs.{2 * k + 1}", 2 * k + 2), torgb=torgb(f"to_rgbs.{k}"))
    blocks[f"b{side}"] = Module("SynthesisBlock", None, dict(resample_filter=FILTER), modules)
synthesis = Module("SynthesisNetwork", None, None, blocks)
generator = Module("Generator", None, None, dict(mapping=mapping, synthesis=synthesis), z_dim=WIDTH, c_dim=0)

judge = filled(d)
blocks = {}
for i, side in [(1, 16), (2, 8)]:
    modules = dict(
        conv0=Module("Conv2dLayer", dict(weight=judge[f"convs.{i}.conv1.0.weight"], bias=judge[f"convs.{i}.conv1.1.bias"])),
        conv1=Module("Conv2dLayer", dict(weight=judge[f"convs.{i}.conv2.1.weight"], bias=judge[f"convs.{i}.conv2.2.bias"])),
        skip=Module("Conv2dLayer", dict(weight=judge[f"convs.{i}.skip.1.weight"], bias=None)),
    )
    if side == SIZE:
        modules["fromrgb"] = Module("Conv2dLayer", dict(weight=judge["convs.0.0.weight"], bias=judge["convs.0.1.bias"]))
    blocks[f"b{side}"] = Module("DiscriminatorBlock", None, None, modules)
end = dict(
    mbstd=Module("MinibatchStdLayer", group_size=2),
    conv=Module("Conv2dLayer", dict(weight=judge["final_conv.0.weight"], bias=judge["final_conv.1.bias"])),
    fc=Module("FullyConnectedLayer", dict(weight=judge["final_linear.0.weight"], bias=judge["final_linear.0.bias"])),
    out=Module("FullyConnectedLayer", dict(weight=judge["final_linear.1.weight"], bias=judge["final_linear.1.bias"])),
)
blocks["b4"] = Module("DiscriminatorEpilogue", None, None, end)
critic = Module("Discriminator", None, None, blocks)
everything = dict(G=generator, D=critic, G_ema=generator, training_set_kwargs={"path": "x"}, augment_pipe=None)
for protocol in [3, 4]:
    with open(f"{to}/nvidia{protocol}.pkl", "wb") as file:
        pickle.dump(everything, file, protocol=protocol)
