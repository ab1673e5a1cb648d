// Who sent an HTTP request.
#pragma once

#include <absl/status/statusor.h>

#include "master/admission/user_info.h"
#include "net/http_message.h"

namespace keelson::master {

// The verified client certificate's common name and organizations; without one, system:anonymous.
// Unauthorized for a certificate that does not verify and for bearer tokens (none are issued).
absl::StatusOr<UserInfo> Authenticate(const net::HttpRequest& request);
UserInfo AnonymousUser();

}  // namespace keelson::master
