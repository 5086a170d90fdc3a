#include "tools/io_gen/table_cells.h"

#include "efio/fail.h"

namespace efio::io_gen {

Result<Cell> measure_over_device(const Options& options, Row, std::uint64_t) {
  return fail(Error::Kind::unavailable, "table over " + options.tx_port, "not in this build");
}

}  // namespace efio::io_gen
