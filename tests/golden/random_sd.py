"""A full-size Stable Diffusion of the published configurations with random weights, as a diffusers pipeline, and its
folder. Also a program, where the folder alone is wanted:

    python tests/golden/random_sd.py sd15|sd21 FOLDER
"""

import json
import sys
from pathlib import Path

import diffusers
import torch
import transformers


def vocabulary():
    """The words of the vocabulary that unsee carries, in order, and its merges."""
    merges = (Path(__file__).parent / "../../src/text/clip_merges.txt").read_text().splitlines()
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]
    words = letters + [f"{letter}</w>" for letter in letters] + ["".join(merge.split()) for merge in merges]
    return words + ["<|startoftext|>", "<|endoftext|>"], merges


def write_vocabulary(folder):
    """CLIPTokenizer's two files."""
    words, merges = vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def save(pipe, folder, **options):
    """As files come from the hub: with the vocabulary in the two files that CLIPTokenizer was made of."""
    pipe.save_pretrained(folder, **options)
    write_vocabulary(folder / "tokenizer")


def build(version, tokens):
    """The pipeline; the tokenizer's files are written to `tokens` first."""
    second = version == "sd21"
    write_vocabulary(tokens)
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
    tokenizer = transformers.CLIPTokenizer(
        str(tokens / "vocab.json"),
        str(tokens / "merges.txt"),
        pad_token="!" if second else "<|endoftext|>",
        model_max_length=77,
    )

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
    return pipe


if __name__ == "__main__":
    to = Path(sys.argv[2])
    save(build(sys.argv[1], to / "tokenizer"), to)
