#include "master/apiserver/authentication.h"

#include "api/status_error.h"

namespace keelson::master {

UserInfo AnonymousUser() { return {std::string(kUserAnonymous), {std::string(kGroupUnauthenticated)}}; }

absl::StatusOr<UserInfo> Authenticate(const net::HttpRequest& request) {
  if (request.peer_certificate == nullptr) {
    if (request.headers.Has("Authorization")) return api::Unauthorized("Unauthorized");
    return AnonymousUser();
  }
  const net::PeerCertificate& certificate = *request.peer_certificate;
  if (!certificate.verified || certificate.common_name.empty()) return api::Unauthorized("Unauthorized");
  UserInfo user;
  user.name = certificate.common_name;
  user.groups = certificate.organizations;
  user.groups.push_back(std::string(kGroupAuthenticated));
  return user;
}

}  // namespace keelson::master
