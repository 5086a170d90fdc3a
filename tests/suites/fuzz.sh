# Every fuzz target for EFIO_FUZZ_SECONDS (2). Finds stay in build/fuzz/finds/NAME/.
set -euo pipefail
cd "$EFIO_SOURCE_DIR"
seconds=${EFIO_FUZZ_SECONDS:-2}
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzz_targets
ran=0
for target in build/fuzz/bin/*_fuzz; do
  [ -x "$target" ] || continue
  name=$(basename "$target" _fuzz)
  known=(); [ -d "fuzz/corpus/$name" ] && known=("fuzz/corpus/$name")
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/finds/$name"
  echo "== $name"
  "$target" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 -timeout=10 -rss_limit_mb=4096 \
    -artifact_prefix="build/fuzz/finds/$name/" "build/fuzz/corpus/$name" "${known[@]}"
  ran=$((ran + 1))
done
echo "fuzz: $ran targets, ${seconds} s each, nothing found"
