#!/usr/bin/env bash
# unsee on a GPU against Python diffusers and against the published SalUn loop, on random full-size SD 1.5 weights; and
# StyleGAN2 at 256×256 against plain PyTorch.
#
#   benches/gpu.sh prepare      where Rust is: puts the programs and Python's wheels into .gpu/, which git ignores
#   benches/gpu.sh gan [OUT]    where the GPU is, with PyTorch 2.11, Python 3.12 and no network: StyleGAN2, one table
#   benches/gpu.sh sd [OUT]     there: Stable Diffusion, one table
#
# OUT is the variable of that name, or .gpu/out.
# ROWS="drawing erasing" measures these alone.
# DEVICE=cpu VERSION=miniature PRECISION=f32 STEPS=2 BATCHES="1 2" goes through all of it without a GPU, to test the script.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda} version=${VERSION:-sd15} precision=${PRECISION:-bf16}
steps=${STEPS:-20} batches=${BATCHES:-1 8 16 32} train_steps=${TRAIN_STEPS:-10}
here=$PWD

prepare() {
	make build
	cargo build --release --example gan_speed
	rm -rf .gpu && mkdir -p .gpu/wheels
	local work && work=$(mktemp -d)
	cp target/release/unsee target/release/examples/gan_speed "$work"
	strip "$work"/*
	tar -C "$work" -czf .gpu/programs.tgz unsee gan_speed
	# What the GPU machine's Python lacks; torch, transformers and what they need are there.
	python3 -m pip download --quiet --dest .gpu/wheels --no-deps --python-version 3.12 --only-binary=:all: \
		diffusers==0.42.1 importlib_metadata
	# All that travels: what git knows, and this.
	echo "$(((($(git ls-files -z | xargs -0 du -bc | tail -1 | cut -f1) + $(du -bs .gpu | cut -f1)) >> 20) + 1)) MiB travel"
}

# Unpacks the programs, where Rust is not.
unpack() {
	out=${1:-${OUT:-$here/.gpu/out}} && mkdir -p "$out"
	export LD_LIBRARY_PATH=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
	work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
	tar -C "$work" -xzf .gpu/programs.tgz
	machine=$(python3 -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")')
}

# name | unsee | peer: one row, remembered for the end.
rows=()
row() { rows+=("| $1 | $2 | $3 | $4 |"); echo "$1: $2, $3 ($4)" >&2; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0 && b > 0) printf "%.2f", a / b; else printf "-" }'; }
# A phase's seconds or its peak on the device (MiB) in a run folder.
phase() { python3 - "$1" "$2" "$3" <<'PY'
import json, sys
phases = json.load(open(sys.argv[1] + "/run.json"))["phases"]
found = [p for p in phases if p["name"].startswith(sys.argv[2])]
print(sum(p["seconds"] for p in found) if sys.argv[3] == "seconds" else max(p["peak"]["device"] for p in found) / 2**20)
PY
}

# StyleGAN2 at 256×256, config F: goals 1.2 for drawing and 1.5 for a step.
gan() {
	unpack "$@"
	local gan=(256 f 16 16) && [ "$version" != miniature ] || gan=(16 8,8,8 4 4)
	{
		echo "## StyleGAN2 at ${gan[0]}×${gan[0]} on a GPU"
		echo
		echo "\`benches/gpu.sh gan\`, $(date -u +%F), $machine, random weights, f32."
		echo
		UNSEE_GAN_SPEED=$work/gan_speed RUNS=2 benches/gan.sh "$device" "${gan[@]}" 2>>"$out/gan.log"
	} | tee "$out/gan.md"
}

# The same latent on the CPU and on the device, in f32.
same_latent() {
	for where in cpu "$device"; do
		"$unsee" generate -q "$prompt" --model "$model" --device "$where" --precision f32 --size "$((side / 2))x$((side / 2))" \
			--steps 4 --seeds 1 --out "$work/same-$where" >/dev/null
	done
	apart=$(PYTHONPATH=${PYTHONPATH:-} python3 -c "
import numpy, sys
from PIL import Image
a, b = (numpy.asarray(Image.open(f'$work/same-{where}/0_0.png')).astype(int) for where in ('cpu', '$device'))
print(abs(a - b).max())")
	row "the same latent in f32, CPU against $device, 255ths apart" "$apart" "" "goal 4"
}

# Pictures a second: two runs of different length, so that loading does not count.
drawing() {
	# What a first process reads comes from the disk, what the next ones read does not.
	"$unsee" generate -q "$prompt" --model "$model" --device "$device" --precision "$precision" --batch 1 --steps 1 \
		--seeds 1 --out "$work/warm-up" >/dev/null
	for batch in $batches; do
		seconds=()
		for count in "$batch" $((batch * 3)); do
			"$unsee" generate -q "$prompt" --model "$model" --device "$device" --precision "$precision" --batch "$batch" \
				--steps "$steps" --guidance 7.5 --sampler ddim --seeds "$(seq -s, 1 "$count")" --out "$work/draw-$batch-$count" >/dev/null
			seconds+=("$(phase "$work/draw-$batch-$count" drawing seconds)")
		done
		ours=$(awk -v a="${seconds[0]}" -v b="${seconds[1]}" -v n=$((batch * 2)) 'BEGIN { print n / (b - a) }')
		theirs=$($peer generate "$model" $((batch * 2)) "$steps" "$batch" "$precision" 2>>"$out/peer.log" | awk '{ print 1 / $1 }' || true)
		row "pictures/s, batch $batch, $precision, $steps steps" "$ours" "$theirs" "$(ratio "$ours" "$theirs") of 1.2"
		rm -rf "$work"/draw-*
	done
}

# What SalUn is measured with.
settings() {
	cat >"$work/salun.toml" <<TOML
name = "salun"
[model]
path = "$model"
[concept]
forget = ["style:Mosaic"]
style_anchor = "Photo"
forget_pictures = 8
keep_pictures = 8
[[method]]
name = "salun"
batch = 8
lr = 1e-5
[draw]
steps = 2
batch = 8
[answers]
styles = ["Mosaic", "Photo"]
objects = ["Dog"]
seeds = [1]
[judge]
reference = "none"
TOML
}

# SalUn on the whole UNet: two erasures of different length on the same pictures.
erasing() {
	settings
	for thrift in ${THRIFTS:-fast balanced low}; do
		seconds=()
		for count in 3 $((3 + train_steps)); do
			"$unsee" run -q "$work/salun.toml" --device "$device" --precision "$precision" --memory "$thrift" \
				--set method.steps=$count --out "$work/salun-$thrift-$count" >/dev/null 2>>"$out/unsee.log" || { tail -1 "$out/unsee.log" >&2; break; }
			seconds+=("$(phase "$work/salun-$thrift-$count" erasing seconds)")
		done
		[ "${#seconds[@]}" = 2 ] || continue
		ours=$(awk -v a="${seconds[0]}" -v b="${seconds[1]}" -v n="$train_steps" 'BEGIN { print (b - a) / n }')
		memory=$(phase "$work/salun-$thrift-$((3 + train_steps))" erasing device)
		row "SalUn step, 8 + 8 at $side px, $precision, --memory $thrift: s, MiB" "$ours" "$memory MiB" ""
		if [ "$thrift" = fast ]; then fast=$ours; fi
	done
}

# With f16's scaled losses, and as many pictures at once as fit.
half_precision() {
	[ "$device" != cpu ] || return 0
	settings
	seconds=()
	for count in 3 $((3 + train_steps)); do
		"$unsee" run -q "$work/salun.toml" --device "$device" --precision f16 --set method.steps=$count \
			--out "$work/salun-f16-$count" >/dev/null 2>>"$out/unsee.log" || break
		seconds+=("$(phase "$work/salun-f16-$count" erasing seconds)")
	done
	[ "${#seconds[@]}" = 2 ] && row "SalUn step, 8 + 8 at $side px, f16: s" \
		"$(awk -v a="${seconds[0]}" -v b="${seconds[1]}" -v n="$train_steps" 'BEGIN { print (b - a) / n }')" "" ""
}

# As many pictures at once as fit.
fitting() {
	"$unsee" generate -q "$prompt" --model "$model" --device "$device" --precision "$precision" --batch auto --steps 2 --seeds 1 \
		--out "$work/auto" >/dev/null 2>>"$out/unsee.log" &&
		row "pictures at once by --batch auto" "$(python3 -c "import json; print(json.load(open('$work/auto/run.json'))['batch'])")" "" ""
}

# The published loop, and the machine's own rate.
official() {
	for kind in f32 "$precision"; do
		read -r theirs memory < <($peer official "$model" "$train_steps" 8 "$kind" 2>>"$out/peer.log" || echo "0 0")
		row "the published loop in plain PyTorch, $kind: s, MiB" "" "$theirs, $memory MiB" "$(ratio "$theirs" "${fast:-0}") of $([ $kind = f32 ] && echo 4 || echo 1.3)"
	done
	# Where the time of one prediction goes, and the machine's own rate.
	$peer rate "$precision" >"$out/rate.txt" 2>>"$out/peer.log" && row "the machine's own rate of matrix products, TFLOP/s" "" "$(cat "$out/rate.txt")" ""
}

# AdvUnlearn's attacked iteration beside the published loop.
adversarial() {
	RUNS=1 UNSEE=$unsee UNSEE_PYTHON=python3 benches/advunlearn.sh "$device" "$model" "$precision" | tee "$out/advunlearn.md" >&2
	read -r ours theirs < <(awk -F'|' '/attacked iteration/ { print $3, $4 }' "$out/advunlearn.md")
	row "AdvUnlearn, attacked iteration, $precision: s" "$ours" "$theirs" "$(ratio "$theirs" "$ours") of 8"
}

# A block of UnlearnDiffAtk, 40 steps for 4 trials: what --plan finds out by a short one.
searching() {
	"$unsee" erase -q "van gogh" --model "$model" --device "$device" --precision "$precision" --method uce --out "$work/uce" >/dev/null
	blocks=$("$unsee" attack -q --model "$model" --device "$device" --precision "$precision" --edit "$work"/uce/edits/*.safetensors \
		--concept "van gogh" --with unlearn-diff-atk --set attack.timesteps=1 --set attack.floor=false --set attack.new_seeds=0 \
		--set 'prompts.seeds=[1,2,3,4]' --set 'judge.shows=["a painting"]' --set 'judge.clear=["a photograph"]' \
		--set judge.path=models/judge --set draw.steps="$steps" --plan --json 2>>"$out/unsee.log" |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["attacks"][0]["minutes"] * 60)')
	row "UnlearnDiffAtk, a block of 40 steps for 4 trials and their pictures, $precision: s" "$blocks" "" ""
}

sd() {
	unpack "$@"
	unsee=$work/unsee peer="python3 benches/peer.py"
	if ! python3 -c 'import diffusers, transformers' 2>/dev/null; then
		python3 -m pip install --quiet --no-index --no-deps --find-links .gpu/wheels --target "$work/python" .gpu/wheels/*.whl
		export PYTHONPATH=$work/python${PYTHONPATH:+:$PYTHONPATH}
	fi
	export PEER_DEVICE=$device
	if [ "$version" = miniature ]; then
		model=$here/models/miniature side=64 prompt="A Cat image in Mosaic style."
	else
		model=$work/model side=512 prompt="a photograph of an astronaut riding a horse"
		python3 tests/golden/random_sd.py "$version" "$model"
	fi
	"$unsee" doctor --device "$device" >&2

	# ROWS says which; one that fails leaves a gap, and does not end the run.
	for part in ${ROWS:-same_latent drawing adversarial searching erasing half_precision fitting official}; do
		"$part" || echo "$part: not measured" >&2
	done

	{
		echo "## Full-size on a GPU"
		echo
		echo "\`benches/gpu.sh sd\`, $(date -u +%F), $machine, random weights of $version."
		echo
		echo "| what | unsee | peer | ratio of goal |"
		echo "| --- | --- | --- | --- |"
		printf '%s\n' "${rows[@]}"
	} | tee "$out/gpu.md"
}

"${1:?prepare, gan or sd}" "${@:2}"
