#include "master/store/testing/store_harness.h"

#include <stdlib.h>

#include "base/fd.h"
#include "base/log.h"

namespace keelson::master::testing {

TempDir::TempDir() {
  const char* base = getenv("TMPDIR");
  path_ = StrCat(base == nullptr ? "/tmp" : base, "/keelson-store-XXXXXX");
  KEELSON_CHECK(mkdtemp(path_.data()) != nullptr, path_);
}
TempDir::~TempDir() { (void)RemoveTree(path_); }

}  // namespace keelson::master::testing
