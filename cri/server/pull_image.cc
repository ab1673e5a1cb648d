#include <absl/strings/escaping.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/image_server.h"
#include "images/reference.h"
#include "images/registry_auth.h"

namespace keelson::cri {

absl::Status CheckImageHandler(const v1::ImageSpec& image, const std::vector<std::string>& handlers) {
  const std::string& handler = image.runtime_handler();
  if (handler.empty() || std::find(handlers.begin(), handlers.end(), handler) != handlers.end()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(StrCat("image.runtime_handler: \"", handler,
                                           "\" is not there; there are: ", absl::StrJoin(handlers, ", ")));
}

absl::StatusOr<std::optional<images::RegistryCredentials>> CredentialsOf(const v1::AuthConfig& auth,
                                                                         const std::string& reference) {
  using Credentials = std::optional<images::RegistryCredentials>;
  if (!auth.server_address().empty()) {
    ASSIGN_OR_RETURN(images::Reference image, images::Reference::Parse(reference));
    std::string server = images::NormalAuthKey(auth.server_address());
    if (server.substr(0, server.find('/')) != image.domain) return Credentials();
  }
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
    // Some clients fill the text up with them.
    while (!credentials.password.empty() && credentials.password.back() == '\0')
      credentials.password.pop_back();
  }
  if (credentials.username.empty() && credentials.identity_token.empty() &&
      credentials.registry_token.empty()) {
    return Credentials();
  }
  return Credentials(std::move(credentials));
}

Task<absl::StatusOr<v1::PullImageResponse>> ImageServer::PullImage(v1::PullImageRequest request) {
  if (request.image().image().empty()) co_return absl::InvalidArgumentError("image.image: required");
  CO_RETURN_IF_ERROR_SYNC(CheckImageHandler(request.image(), runtime_handlers_));
  images::PullOptions options;
  if (request.has_auth()) {
    CO_ASSIGN_OR_RETURN_SYNC(options.credentials, CredentialsOf(request.auth(), request.image().image()));
  }
  CO_ASSIGN_OR_RETURN(std::string id, store_.Pull(request.image().image(), std::move(options)));
  v1::PullImageResponse response;
  response.set_image_ref(id);
  co_return response;
}

}  // namespace keelson::cri
