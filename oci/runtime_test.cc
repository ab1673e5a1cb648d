#include "oci/runtime.h"

#include <gtest/gtest.h>

#include "base/fake_env.h"

namespace keelson::oci {
namespace {

TEST(Placeholder, Builds) {}

}  // namespace
}  // namespace keelson::oci
