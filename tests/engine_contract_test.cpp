// The contract of efio/engines/engine.h, for the engines that need no privilege; the cases stand in contract/.
#include <gtest/gtest.h>

#include "tests/contract/rig.h"

namespace {
[[maybe_unused]] const bool registered = efio::test::register_contract(false);
}
