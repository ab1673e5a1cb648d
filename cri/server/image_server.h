// ImageServer: CRI's ImageService over images::ImageStore. One file per RPC.
#pragma once

#include <absl/status/statusor.h>

#include "base/env.h"
#include "cri/image_service.h"
#include "cri/rpcs.h"
#include "images/image_store.h"

namespace keelson::cri {

class ImageServer : public ImageService {
 public:
  // Both must outlive it.
  ImageServer(Env& env, images::ImageStore& store) : env_(env), store_(store) {}

#define KEELSON_DECLARE_RPC_(Rpc, Request, Response) \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override;
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_DECLARE_RPC_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_DECLARE_RPC_)
#undef KEELSON_DECLARE_RPC_

 private:
  Env& env_;
  images::ImageStore& store_;
};

// A record as CRI shows it: user "1002:50" is uid 1002, "www-data:50" is username "www-data". Pure.
v1::Image ImageOf(const images::ImageRecord& record);

}  // namespace keelson::cri
