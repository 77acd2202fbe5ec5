#!/usr/bin/env bash
# Everything that needs a GPU, in one command of less than eight minutes: builds the core with CUDA in place, runs the tests
# marked `cuda`, compute-sanitizer over every kernel, and the benchmarks of benchmarks/cuda.
#
#     benchmarks/gpu.sh [FOLDER]         FOLDER (default: $OUT, else benchmarks/results) gets DEVICE.json and DEVICE.log
#     benchmarks/gpu.sh --dry FOLDER     the same steps on the CPU, without building, on tiny inputs: whether this script works
#
# The first hour on a GPU, in this order; each call adds to the same two files:
#     PARTS=tests      every kernel against the CPU, Megvii with kernel_size=97 (48 KiB of shared memory and some more), pytest -m cuda
#     PARTS=sanitizer  compute-sanitizer's memcheck and racecheck over every kernel
#     PARTS=profile    ncu on crop, loss and encode, into FOLDER/DEVICE.ncu-rep
#     PARTS=benchmarks the ops against a copy of the same bytes, 33 crops against 32 (more arguments of the launch), 4096 people;
#                      pipeline, loading, training
#
# For a bare machine: needs Python with torch, NumPy, OpenCV, safetensors, pybind11, CMake, ninja and pytest, and nvcc; no network.
# A step that fails does not keep the others from running; the exit status is 1 if any failed. Without a GPU: says so, exit 0.
# Variables: PYTHON (python3), FASTPOSE_COMMIT (what to write into the file where there is no git), BUDGET (seconds, 470),
# PARTS ("tests sanitizer benchmarks": what of it, each with the build before it; named, its steps have twice the time. profile must
# be named).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

dry=0
if [ "${1:-}" = --dry ]; then
    dry=1
    shift
    if [ $# -ne 1 ]; then
        echo "usage: benchmarks/gpu.sh --dry FOLDER" >&2
        exit 2
    fi
fi
for part in ${PARTS:-}; do
    case $part in
    tests | sanitizer | profile | benchmarks) ;;
    *)
        echo "PARTS: expected some of tests, sanitizer, profile, benchmarks, got '$part'" >&2
        exit 2
        ;;
    esac
done
out=${1:-${OUT:-benchmarks/results}}
python=${PYTHON:-python3}
budget=${BUDGET:-470}
parts=" ${PARTS:-tests sanitizer benchmarks} "
times=1
[ -n "${PARTS:-}" ] && times=2
device=cuda
options=()

# Name for the files and architecture (9.0 is 90).
probe='
import re, sys, torch
if not torch.cuda.is_available():
    sys.exit(3)
p = torch.cuda.get_device_properties(0)
print("-".join(re.findall("[a-z0-9]+", p.name.lower())), f"{p.major}{p.minor}")'
if ((dry)); then
    name=dry arch=none device=cpu
    options=(--dry)
else
    found=$("$python" -c "$probe")
    status=$?
    if ((status == 3)); then
        echo "skipped: no CUDA device"
        exit 0
    elif ((status != 0)); then
        echo "$python cannot ask torch for a CUDA device" >&2
        exit 1
    fi
    read -r name arch <<<"$found"
fi

mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
log=$out/$name.log
report=$out/$name
[ -n "${PARTS:-}" ] || : >"$log" # a part comes after the others
steps=()
failures=0

# step NAME LIMIT COMMAND...: runs it for at most so many seconds, and no longer than the budget allows. Interrupted, so that pytest
# says what failed until then; killed if that does not help.
step() {
    local title=$1 limit=$2 start=$SECONDS status left
    shift 2
    limit=$((limit * times))
    left=$((budget - SECONDS))
    ((limit > left)) && limit=$left
    printf '\n== %s\n' "$title" | tee -a "$log"
    if ((limit < 5)); then
        status=124
        echo "no time left" | tee -a "$log"
    else
        timeout -s INT -k 5 "$limit" "$@" 2>&1 | tee -a "$log"
        status=${PIPESTATUS[0]}
    fi
    ((status == 0)) || failures=$((failures + 1))
    steps+=("$title" "$status" "$((SECONDS - start))")
    printf '== %s: exit status %s after %s s\n' "$title" "$status" "$((SECONDS - start))" | tee -a "$log"
}

# Without isolation: the build tools are those of the machine. Where its setuptools cannot read pyproject.toml, CMake alone does.
build() {
    export FASTPOSE_CUDA=on FASTPOSE_CUDA_ARCHS=$arch
    "$python" setup.py build_ext --inplace && return 0
    echo "setup.py failed; CMake by hand"
    local version
    version=$("$python" -c 'import runpy; print(runpy.run_path("fastpose/_version.py")["__version__"])') || return 1
    cmake -S . -B build/cmake-gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/fastpose" \
        -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
        -DFASTPOSE_VERSION="$version" -DFASTPOSE_CUDA=on -DFASTPOSE_CUDA_ARCHS="$arch" && cmake --build build/cmake-gpu
}
export -f build
export python arch

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)

sanitized() {
    if [ -z "$sanitizer" ]; then
        echo "compute-sanitizer was not found"
        return 1
    fi
    # torch asks the driver for what it may not have, and goes on: no mistake of ours.
    local more=()
    [ "$1" = memcheck ] && more=(--report-api-errors no)
    # Without torch's cache of memory every tensor is an allocation of its own, so that its end is watched.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$1" "${more[@]}" --error-exitcode 9 --print-limit 20 \
        "$python" -m benchmarks.cuda.sanitize
}
export -f sanitized
export sanitizer

profiler=$(command -v ncu || ls /usr/local/cuda/bin/ncu 2>/dev/null)

# Twenty launches and more: each is run again for every group of counters.
profiled() {
    if [ -z "$profiler" ]; then
        echo "ncu was not found"
        return 1
    fi
    "$profiler" --set full --kernel-name "regex:crop_|heatmap_" --force-overwrite --export "$report" \
        "$python" -m benchmarks.cuda.profiled && "$profiler" --import "$report.ncu-rep" --page details
}
export -f profiled
export profiler report

if ((dry)); then
    step "every kernel, small" 60 "$python" -m benchmarks.cuda.sanitize cpu
else
    step build 180 bash -c build
    step "the core has CUDA" 30 "$python" -c 'from fastpose.ops._native import C; print(C.build_info()); assert C.with_cuda'
    step "every kernel, small" 60 "$python" -m benchmarks.cuda.sanitize
fi
if [[ $parts == *" tests "* ]]; then
    step "Megvii, kernel_size=97" 30 "$python" -m benchmarks.cuda.sanitize "$device" wide_blur
    mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.cuda' tests | sort)
    step "pytest -m cuda" 120 "$python" -m pytest -q -m cuda --continue-on-collection-errors -p no:cacheprovider \
        --tb=short --durations=5 "${files[@]}"
fi
if [[ $parts == *" profile "* ]]; then
    if ((dry)); then
        step "what ncu looks at" 60 "$python" -m benchmarks.cuda.profiled cpu
    else
        step "ncu: crop, loss, encode" 150 bash -c profiled
    fi
fi
if [[ $parts == *" benchmarks "* ]]; then
    where=(--device "$device" --out "$out" --name "$name")
    step "benchmarks: pipeline" 90 "$python" -m benchmarks.cuda pipeline "${where[@]}" --seconds 60 "${options[@]}"
    step "benchmarks: ops" 150 "$python" -m benchmarks.cuda ops "${where[@]}" --seconds 120 "${options[@]}"
    networks=(resnet50 hrnet_w32)
    ((dry)) && networks=(mobilenetv2)
    for network in "${networks[@]}"; do # apart, as cuDNN keeps what it has chosen
        step "benchmarks: loading, $network" 75 "$python" -m benchmarks.cuda loading "${where[@]}" --only "$network" \
            "${options[@]}"
    done
    step "benchmarks: training" 60 "$python" -m benchmarks.cuda training "${where[@]}" --seconds 40 "${options[@]}"
fi
if [[ $parts == *" sanitizer "* ]] && ((!dry)); then
    step "compute-sanitizer memcheck" 60 bash -c 'sanitized memcheck'
    step "compute-sanitizer racecheck" 60 bash -c 'sanitized racecheck'
fi

# What ran and how it ended belongs beside the figures.
"$python" - "$out/$name.json" "${steps[@]}" <<'PYTHON' | tee -a "$log"
import json, pathlib, sys

sys.path.insert(0, ".")
from benchmarks.cuda.__main__ import write

path, rest = pathlib.Path(sys.argv[1]), sys.argv[2:]
steps = [{"step": rest[i], "status": int(rest[i + 1]), "seconds": int(rest[i + 2])} for i in range(0, len(rest), 3)]
for step in steps:
    print(f"{step['status']:4d} {step['seconds']:5d} s  {step['step']}")
known = json.loads(path.read_text()) if path.is_file() else {}
ran = {step["step"] for step in steps}
steps = [step for step in known.get("steps", []) if step["step"] not in ran] + steps  # of another call, with other PARTS
write(path, "steps", known.get("machine", {}), steps)
print(path)
PYTHON
((failures == 0))
