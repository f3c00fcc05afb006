"""The fields that diffusers and transformers write into the configurations that unsee reads, with their defaults, into
fields.json: from the classes' signatures, and from what their own `save_pretrained` and `save_config` put on the disk.

    pip install diffusers==0.42.1 transformers==5.23.0 peft scipy
    python tests/golden/fields.py
"""

import inspect
import json
import math
import tempfile
from pathlib import Path

import diffusers
import peft
import transformers

here = Path(__file__).parent


def plain(value):
    """As JSON has it."""
    if isinstance(value, float) and math.isinf(value):
        return "-Infinity" if value < 0 else "Infinity"
    if isinstance(value, (tuple, list, set)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if hasattr(value, "value"):
        return value.value
    return value


def signature(cls):
    found = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        found[name] = None if parameter.default is inspect.Parameter.empty else plain(parameter.default)
    return found


def diffusers_class(cls, **sizes):
    """Its signature, and what it writes into a file."""
    fields = signature(cls)
    with tempfile.TemporaryDirectory() as folder:
        cls(**sizes).save_config(folder)
        (file,) = Path(folder).iterdir()
        for name in json.loads(file.read_text()):
            fields.setdefault(name, None)
    return fields


def transformers_config(cls):
    """Its signature, and what it writes into a file where nothing differs from the defaults and where all does."""
    fields = signature(cls)
    for name, value in cls().to_dict().items():
        fields.setdefault(name, plain(value))
    return fields


def image_processor():
    processor = transformers.CLIPImageProcessor()
    fields = {name: None for name in transformers.processing_utils.ImagesKwargs.__annotations__}
    fields.update({name: plain(value) for name, value in processor.to_dict().items()})
    return fields


def tokenizer():
    import sys

    sys.path.insert(0, str(here))
    from random_sd import write_vocabulary

    with tempfile.TemporaryDirectory() as folder:
        write_vocabulary(Path(folder) / "in")
        own = transformers.CLIPTokenizer.from_pretrained(Path(folder) / "in")
        own.save_pretrained(Path(folder) / "out")
        fields = {name: plain(value) for name, value in signature(transformers.CLIPTokenizer).items()}
        fields.update(json.loads((Path(folder) / "out/tokenizer_config.json").read_text()))
        whole = json.loads((Path(folder) / "out/tokenizer.json").read_text())
    del fields["vocab"], fields["merges"]
    return fields, {name: None for name in whole}


def adapter():
    config = peft.LoraConfig()
    return {name: plain(value) for name, value in config.to_dict().items()}


S = [
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
]
words, whole = tokenizer()
pipeline = {name: None for name in signature(diffusers.StableDiffusionPipeline)}
classes = {
    "StableDiffusionPipeline": {**pipeline, "_class_name": None, "_diffusers_version": None, "_name_or_path": None},
    "UNet2DConditionModel": diffusers_class(diffusers.UNet2DConditionModel, block_out_channels=(32, 32, 32, 32)),
    "AutoencoderKL": diffusers_class(diffusers.AutoencoderKL),
    "CLIPTextConfig": transformers_config(transformers.CLIPTextConfig),
    "CLIPVisionConfig": transformers_config(transformers.CLIPVisionConfig),
    "CLIPConfig": transformers_config(transformers.CLIPConfig),
    "CLIPImageProcessor": image_processor(),
    "CLIPTokenizer": words,
    "tokenizer.json": whole,
    "LoraConfig": adapter(),
    **{name: diffusers_class(getattr(diffusers, name)) for name in S},
}
made = {
    "made by": "tests/golden/fields.py",
    "diffusers": diffusers.__version__,
    "transformers": transformers.__version__,
    "peft": peft.__version__,
    "classes": classes,
}
(here / "fields.json").write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
