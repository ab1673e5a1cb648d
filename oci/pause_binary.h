// The static program that holds a pod's namespaces (images/pause/pause.c), as a file's content.
#pragma once

#include <string_view>

namespace keelson::oci {

std::string_view PauseBinary();

}  // namespace keelson::oci
