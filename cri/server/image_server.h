// ImageServer: CRI's ImageService over images::ImageStore. One file per RPC.
#pragma once

#include <absl/status/statusor.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/env.h"
#include "cri/image_service.h"
#include "cri/rpcs.h"
#include "images/image_store.h"

namespace keelson::cri {

class ImageServer : public ImageService {
 public:
  // Both must outlive it. `runtime_handlers`: those a request may name; images are the same for all of them.
  ImageServer(Env& env, images::ImageStore& store, std::vector<std::string> runtime_handlers)
      : env_(env), store_(store), runtime_handlers_(std::move(runtime_handlers)) {}

#define KEELSON_DECLARE_RPC_(Rpc, Request, Response) \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override;
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_DECLARE_RPC_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_DECLARE_RPC_)
#undef KEELSON_DECLARE_RPC_

 private:
  Env& env_;
  images::ImageStore& store_;
  const std::vector<std::string> runtime_handlers_;
};

// CRI: a request that names an unknown handler is rejected. InvalidArgument. Pure.
absl::Status CheckImageHandler(const v1::ImageSpec& image, const std::vector<std::string>& handlers);

// AuthConfig carries a name and password, or both as "auth" (base64 of "name:password"), or a token; nullopt:
// none of it, or it is for another registry (server_address) than that of `reference`. Pure.
absl::StatusOr<std::optional<images::RegistryCredentials>> CredentialsOf(const v1::AuthConfig& auth,
                                                                         const std::string& reference);

// A record as CRI shows it: user "1002:50" is uid 1002, "www-data:50" is username "www-data". Pure.
v1::Image ImageOf(const images::ImageRecord& record);

}  // namespace keelson::cri
