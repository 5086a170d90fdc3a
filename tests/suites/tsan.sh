# The tests labelled `threads` under the thread sanitizer. g++ 12's cannot live with more than 28 bits of address
# randomisation, hence setarch where it is allowed.
set -euo pipefail
cd "$EFIO_SOURCE_DIR"
fixed=(); setarch -R true 2>/dev/null && fixed=(setarch -R)
cmake --preset tsan >/dev/null
"${fixed[@]}" cmake --build --preset tsan --target threads_tests
"${fixed[@]}" ctest --test-dir build/tsan -L threads --no-tests=error --output-on-failure --timeout 300
