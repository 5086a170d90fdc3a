# The unit tests under the address and undefined-behaviour sanitizers, with the library's debug checks on.
set -euo pipefail
cd "$EFIO_SOURCE_DIR"
cmake --preset asan >/dev/null
cmake --build --preset asan --target unit_tests
ctest --test-dir build/asan -L unit --no-tests=error -j"$(nproc)" --output-on-failure --timeout 300
