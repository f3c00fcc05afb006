#!/usr/bin/env bash
# An attacked iteration of AdvUnlearn on the text encoder beside the published loop in plain PyTorch: 30 steps of the inner
# attack, one picture to unlearn and five to keep, partial samples of 50 steps. Prints one table.
#
#   benches/advunlearn.sh [DEVICE MODEL PRECISION]      default: cpu models/miniature f32
#
# The Python is UNSEE_PYTHON, else .venv's; it needs diffusers. The program is UNSEE, else target/release/unsee. What unsee
# draws once, the pool, is left out of the iteration and has a row of its own. Both are run in turn, RUNS times (3); the
# median is taken. A model that does not draw classes is told what to forget and to keep in words.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-cpu} model=${2:-models/miniature} precision=${3:-f32} runs=${RUNS:-3} sampling=${SAMPLING:-50} inner=${INNER:-30}
unsee=${UNSEE:-target/release/unsee} python=${UNSEE_PYTHON:-.venv/bin/python}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
concept=(--forget style:Mosaic)
if [ "$(python3 -c "import json; print(json.load(open('$model/unet/config.json'))['sample_size'])")" -ge 64 ]; then
	concept=("van gogh" --set 'concept.keep=["tomato soup","three apples","a loaf of bread","a dog on a beach","a red car"]')
fi

# Seconds of an erasure of so many iterations with the smallest pool of so many samples.
erasure() {
	rm -rf "$work/out"
	"$unsee" erase -q "${concept[@]}" --model "$model" --device "$device" --precision "$precision" --method adv-unlearn \
		--set method.steps="$1" --set method.warmup=0 --set method.attack.steps="$inner" --set method.sampling_steps="$sampling" \
		--set method.pool=4 --set method.retain.pool=8 --out "$work/out" >/dev/null
	python3 -c "import json; print(sum(p['seconds'] for p in json.load(open('$work/out/run.json'))['phases'] if p['name'].startswith('erasing')))"
}
for _ in $(seq "$runs"); do
	few=$(erasure 2) many=$(erasure 10)
	awk -v a="$few" -v b="$many" 'BEGIN { print (b - a) / 8, a - (b - a) / 4 }' >>"$work/ours"
	PEER_DEVICE=$device "$python" benches/peer.py advunlearn "$model" 2 "$inner" "$sampling" "$precision" 2>/dev/null >>"$work/theirs"
done
python3 - "$work" "$device, $model, $precision" <<'PY'
import statistics, sys
column = lambda file, n: statistics.median(float(line.split()[n]) for line in open(f"{sys.argv[1]}/{file}"))
ours, pool, theirs = column("ours", 0), column("ours", 1), column("theirs", 0)
print(f"| {sys.argv[2]} | unsee | PyTorch | PyTorch / unsee |\n| --- | --- | --- | --- |")
print(f"| attacked iteration, s | {ours:.3g} | {theirs:.3g} | {theirs / ours:.1f} |")
print(f"| the pool, once, s | {pool:.3g} | | |")
PY
