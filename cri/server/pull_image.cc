#include <absl/strings/escaping.h>

#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/image_server.h"

namespace keelson::cri {

namespace {

// AuthConfig carries a name and password, or both as "auth" (base64 of "name:password"), or a token.
absl::StatusOr<std::optional<images::RegistryCredentials>> CredentialsOf(const v1::AuthConfig& auth) {
  images::RegistryCredentials credentials;
  credentials.username = auth.username();
  credentials.password = auth.password();
  credentials.identity_token = auth.identity_token();
  credentials.registry_token = auth.registry_token();
  if (!auth.auth().empty() && credentials.username.empty()) {
    std::string decoded;
    size_t colon = std::string::npos;
    if (absl::Base64Unescape(auth.auth(), &decoded)) colon = decoded.find(':');
    if (colon == std::string::npos) {
      return absl::InvalidArgumentError("auth.auth: want base64 of \"username:password\"");
    }
    credentials.username = decoded.substr(0, colon);
    credentials.password = decoded.substr(colon + 1);
  }
  if (credentials.username.empty() && credentials.identity_token.empty() &&
      credentials.registry_token.empty()) {
    return std::optional<images::RegistryCredentials>();
  }
  return std::optional<images::RegistryCredentials>(std::move(credentials));
}

}  // namespace

Task<absl::StatusOr<v1::PullImageResponse>> ImageServer::PullImage(v1::PullImageRequest request) {
  if (request.image().image().empty()) co_return absl::InvalidArgumentError("image.image: required");
  images::PullOptions options;
  if (request.has_auth()) {
    CO_ASSIGN_OR_RETURN_SYNC(options.credentials, CredentialsOf(request.auth()));
  }
  CO_ASSIGN_OR_RETURN(std::string id, store_.Pull(request.image().image(), std::move(options)));
  v1::PullImageResponse response;
  response.set_image_ref(id);
  co_return response;
}

}  // namespace keelson::cri
