# Every fuzz target for EFIO_FUZZ_SECONDS (2). Finds stay in build/fuzz/finds/NAME/.
set -euo pipefail
cd "$EFIO_SOURCE_DIR"
seconds=${EFIO_FUZZ_SECONDS:-2}
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzz_targets
run() {
  local target=$1 name known=()
  name=$(basename "$target" _fuzz)
  [ -d "fuzz/corpus/$name" ] && known=("fuzz/corpus/$name")
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/finds/$name"
  "$target" -max_total_time="$2" -print_final_stats=1 -verbosity=0 -timeout=10 -rss_limit_mb=4096 \
    -artifact_prefix="build/fuzz/finds/$name/" "build/fuzz/corpus/$name" "${known[@]}" >"build/fuzz/$name.log" 2>&1 ||
    { echo "== $name"; cat "build/fuzz/$name.log"; exit 255; } # xargs stops at 255
}
export -f run
targets=(build/fuzz/bin/*_fuzz)
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c "run {} $seconds"
tail -qn 7 build/fuzz/*.log
echo "fuzz: ${#targets[@]} targets, ${seconds} s each, nothing found"
