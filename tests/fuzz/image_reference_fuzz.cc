// Image references as users write them. What is accepted is completed, and stays itself when parsed again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "images/reference.h"

namespace {

using keelson::images::Reference;

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto reference = Reference::Parse(text);
  if (!reference.ok()) return 0;
  Require(reference->tag.empty() != reference->digest.empty());
  Require(reference->Name().size() <= keelson::images::kMaxReferenceNameBytes);
  // Fit for a path of the registry's API and for a directory name.
  Require(reference->domain.find('/') == std::string::npos);
  Require(reference->ToString().find("..") == std::string::npos ||
          reference->tag.find("..") != std::string::npos);
  auto again = Reference::Parse(reference->ToString());
  Require(again.ok() && again->ToString() == reference->ToString());
  return 0;
}
