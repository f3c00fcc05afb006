#!/usr/bin/env bash
# StyleGAN2 beside a plain PyTorch implementation of the same network: drawing, a training step, stage 2 of
# Adapt-then-Unlearn with one and with five adapted models. Random weights; prints one table.
#
#   benches/gan.sh [DEVICE SIZE CHANNELS BATCH STEPS]      default: cpu 64 192,128,96,48,24 16 16
#
# The Python is UNSEE_PYTHON, else python3; it needs torch alone. The program is target/release/examples/gan_speed, or
# UNSEE_GAN_SPEED. Both are run in turn, three times; the median of each row is taken.
set -euo pipefail
cd "$(dirname "$0")/.."
settings=("${@:-}")
[ -n "${settings[0]}" ] || settings=(cpu 64 192,128,96,48,24 16 16)
ours=${UNSEE_GAN_SPEED:-target/release/examples/gan_speed} python=${UNSEE_PYTHON:-python3} runs=${RUNS:-3}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
for run in $(seq "$runs"); do
	"$ours" "${settings[@]}" >>"$work/ours"
	"$python" benches/peer_gan.py "${settings[@]}" >>"$work/theirs"
done
python3 - "$work" "${settings[*]}" <<'PY'
import json, statistics, sys
def rows(file):
    found = {}
    for line in open(f"{sys.argv[1]}/{file}"):
        row = json.loads(line)
        found.setdefault((row["what"], row["unit"]), []).append(row["value"])
    return {key: statistics.median(values) for key, values in found.items()}
ours, theirs = rows("ours"), rows("theirs")
print(f"| {sys.argv[2]} | unsee | PyTorch | unsee is |\n| --- | --- | --- | --- |")
for (what, unit), value in ours.items():
    peer = theirs.get((what, unit))
    better = "" if peer is None else f"{value / peer if unit == 'pictures/s' else peer / value:.2f} × as good"
    if unit == "MiB" and peer:
        better = f"{value / peer:.2f} of it"
    print(f"| {what}, {unit} | {value:.4g} | {'' if peer is None else f'{peer:.4g}'} | {better} |")
one, five = (next(v for (what, _), v in ours.items() if f"step, {n} adapted" in what) for n in (1, 5))
print(f"\nstage 2 with five adapted models takes {five / one:.2f} of the time with one")
PY
