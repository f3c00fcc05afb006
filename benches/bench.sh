#!/usr/bin/env bash
# Compares unsee with Python diffusers on the miniature's weights and writes the ratios to RESULTS.md.
#
# Each pair is measured in turn, three times, and the median is taken. The Python is UNSEE_PYTHON, else
# .venv, which is made where it is missing (torch, diffusers and transformers from PyPI, 5 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
unsee=$PWD/target/release/unsee
model=$PWD/models/miniature
python=${UNSEE_PYTHON:-.venv/bin/python}
if ! "$python" -c 'import diffusers, transformers' 2>/dev/null; then
	python3 -m venv .venv
	.venv/bin/pip install --quiet torch==2.11.0 diffusers==0.42.1 transformers==5.23.0 safetensors accelerate
	python=.venv/bin/python
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

median() { sort -g | sed -n "$((($1 + 1) / 2))p"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
runs=3 n=52 batch=26

# Seconds a picture, without loading: two runs of different length.
ours_drawing() {
	local seconds=()
	for count in $batch $((batch + n)); do
		seq -s, 1 "$count" >"$work/seeds"
		rm -rf "$work/out"
		"$unsee" generate "A Cat image in Mosaic style." --seeds "$(cat "$work/seeds")" --batch $batch --steps 20 \
			--precision "$1" --device cpu -q --out "$work/out" >/dev/null
		seconds+=("$(python3 -c "import json; print(sum(p['seconds'] for p in json.load(open('$work/out/run.json'))['phases']))")")
	done
	awk -v a="${seconds[0]}" -v b="${seconds[1]}" -v n=$n 'BEGIN { print (b - a) / n }'
}
# Python's best is the faster of its two.
fastest() { sort -g | head -1; }
theirs_drawing() { "$python" benches/peer.py generate "$model" $n 20 $batch "$1" 2>/dev/null; }

# Seconds a training step: two erasures of different length on the same pictures.
ours_training() {
	local seconds=()
	for steps in 5 35; do
		rm -rf "$work/out"
		"$unsee" erase --forget style:Mosaic --precision "$1" --device cpu -q --out "$work/out" \
			--set method.steps=$steps --set draw.steps=1 \
			--set concept.forget_pictures=3 --set concept.keep_pictures=1 >/dev/null
		seconds+=("$(python3 -c "import json; print([p['seconds'] for p in json.load(open('$work/out/run.json'))['phases'] if p['name'].startswith('erasing')][0])")")
	done
	awk -v a="${seconds[0]}" -v b="${seconds[1]}" 'BEGIN { print (b - a) / 30 }'
}
theirs_training() { "$python" benches/peer.py salun "$model" 15 24 "$1" 2>/dev/null; }

# Wall seconds and peak memory (MiB) of a whole process that draws one picture.
whole() {
	python3 - "$@" <<'PY'
import resource, subprocess, sys, time
start = time.time()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
PY
}

declare -A table
pair() { # name, ours, theirs
	: >"$work/a"; : >"$work/b"
	for _ in $(seq $runs); do $2 >>"$work/a"; $3 >>"$work/b"; done
	table[$1]="$(median $runs <"$work/a") $(median $runs <"$work/b")"
	echo "$1: unsee, Python = ${table[$1]}" >&2
}
best=$("$unsee" doctor --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["precision"])')
pair "drawing f32, s a picture" "ours_drawing f32" "theirs_drawing f32"
theirs_drawing_best() { { theirs_drawing f32; theirs_drawing bf16; } | fastest; }
theirs_training_best() { { theirs_training f32; theirs_training bf16; } | fastest; }
pair "drawing best ($best), s a picture" "ours_drawing $best" theirs_drawing_best
pair "SalUn step f32, s" "ours_training f32" "theirs_training f32"
pair "SalUn step best ($best), s" "ours_training $best" theirs_training_best
first_ours() { rm -rf "$work/one"; whole "$unsee" generate "A Cat image in Mosaic style." --device cpu --out "$work/one"; }
first_theirs() { whole "$python" benches/peer.py first "$model" "$best"; } # f32 and bf16 differ little: it is imports
for _ in $(seq $runs); do first_ours >>"$work/fo"; first_theirs >>"$work/ft"; done
table["start to first picture, s"]="$(cut -d' ' -f1 "$work/fo" | median $runs) $(cut -d' ' -f1 "$work/ft" | median $runs)"
table["peak memory of that, MiB"]="$(cut -d' ' -f2 "$work/fo" | median $runs) $(cut -d' ' -f2 "$work/ft" | median $runs)"

{
	echo "# Results"
	echo
	echo "## The miniature on a CPU, against Python diffusers"
	echo
	echo "\`make bench\`, $(date -u +%F), $(nproc) cores of $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), commit $(git rev-parse --short HEAD). Medians of $runs paired runs; machines are noisy, so read the ratios. Batch $batch, 20 DDIM steps, guidance 2; SalUn with 24 + 24 pictures a step over the whole UNet."
	echo
	echo "| what | unsee | Python | Python / unsee |"
	echo "| --- | --- | --- | --- |"
	for name in "drawing f32, s a picture" "drawing best ($best), s a picture" "SalUn step f32, s" "SalUn step best ($best), s" "start to first picture, s" "peak memory of that, MiB"; do
		read -r a b <<<"${table[$name]}"
		printf '| %s | %.3f | %.3f | %s |\n' "$name" "$a" "$b" "$(ratio "$b" "$a")"
	done
	# What other commands measured stays.
	echo
	awk '/^## / { keep = ($0 != "## The miniature on a CPU, against Python diffusers") } keep' benches/RESULTS.md
} >"$work/RESULTS.md"
mv "$work/RESULTS.md" benches/RESULTS.md
cat benches/RESULTS.md
