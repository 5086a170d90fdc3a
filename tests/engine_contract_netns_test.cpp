// The contract of efio/engines/engine.h, for the engines whose devices are made in network namespaces.
#include <gtest/gtest.h>

#include "tests/contract/rig.h"

namespace {
[[maybe_unused]] const bool registered = efio::test::register_contract(true);
}
