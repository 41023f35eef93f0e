#!/usr/bin/env bash
# Fuzzes targets, each for so many CPU seconds (default 900), and says what became of it:
#   fuzz/run.sh SECONDS [TARGET…]
# Needs a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz`). The seeds in fuzz/seeds come first; what is
# found grows in fuzz/corpus, which is not kept in the repository. The exit status is not 0 when something crashed.
# KEYBEARER_FUZZ_BUILT=1 takes the programs that are there; KEYBEARER_FUZZ_PROFILE=dev builds them sooner, and slower.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${1:-900}
shift || true
targets=("$@")
((${#targets[@]} > 0)) || mapfile -t targets < <(cargo +nightly fuzz list)

profile=${KEYBEARER_FUZZ_PROFILE:-release}
[[ -n ${KEYBEARER_FUZZ_BUILT:-} ]] || cargo +nightly fuzz build "--$profile" >&2
folder=$([[ $profile == dev ]] && echo debug || echo release)
triple=$(rustc -vV | sed -n 's/^host: //p')
failed=()
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    used=0 runs=0 last=
    log=$(mktemp)
    while ((used < seconds)); do
        slice=$((seconds - used < 300 ? seconds - used : 300))
        options=(-timeout=60 -rss_limit_mb=2048 -print_final_stats=1 -print_funcs=0 "-max_total_time=$slice" "-artifact_prefix=artifacts/$target/")
        [[ -f "dictionaries/$target.dict" ]] && options+=("-dict=dictionaries/$target.dict")
        TIMEFORMAT='%U %S'
        status=0
        times=$( { time "target/$triple/$folder/$target" "corpus/$target" "seeds/$target" "${options[@]}" >"$log" 2>&1; } 2>&1 ) || status=$?
        used=$((used + $(awk '{ printf "%d", $1 + $2 + 1 }' <<<"$times")))
        runs=$((runs + $(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1 || echo 0)))
        last=$(grep -E 'cov: ' "$log" | tail -1 | grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' || true)
        if ((status != 0)); then
            failed+=("$target")
            tail -40 "$log"
            break
        fi
    done
    rm -f "$log"
    printf '%-16s %6d CPU s  %12d runs  %s\n' "$target" "$used" "$runs" "$last"
done
((${#failed[@]} == 0)) || { printf 'crashed: %s\n' "${failed[*]}"; exit 1; }
