"""Makes tokenizer.json: ids that transformers' CLIPTokenizer gives with the miniature's vocabulary.

    python tests/golden/tokenizer.py > tests/golden/tokenizer.json
"""

import json
import random
import sys
from pathlib import Path

from transformers import CLIPTokenizer

folder = Path(__file__).parents[2] / "models/miniature/tokenizer"
tokenizer = CLIPTokenizer.from_pretrained(folder)
texts = [
    "", " ", "A Cat image in Mosaic style.", "a picture of a Boat", "Neon  Lines\n style", "MUSHROOM!!!",
    "it's the cat's pajamas, we'll see", "2024 was 3.14159", "naïve café", "n\u0061\u0308ive", "Ünïcödé ßtraße",
    "日本語のテキスト", "🙂 emoji 👩‍👩‍👧", "(word:1.2) [negative] {a|b}", "tab\tand\rreturn", "a" * 60,
    "under_score and-dash", "<|endoftext|>", "<|startoftext|> hello", "don't stop", "…—–“quotes”", "\u00a0nbsp\u00a0",
    "ﬁ ligature", "Ⅷ roman ½ half", "İstanbul", "word " * 40,
]
rng = random.Random(0)
alphabet = "abcdefgxyz ABC 012'.,-!?:()" + "éüßñ漢字🙂\u0301\u200d"
texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))) for _ in range(200)]
rows = []
for text in texts:
    ids = tokenizer(text, padding="max_length", truncation=True, max_length=tokenizer.model_max_length).input_ids
    rows.append({"text": text, "ids": ids})
json.dump(rows, sys.stdout, ensure_ascii=True, indent=0)
