# Every header compiles alone.
set -euo pipefail
cmake --build "$EFIO_BUILD_DIR" --target check_headers
