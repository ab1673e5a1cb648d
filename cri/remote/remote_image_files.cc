#include "cri/remote/remote_image_files.h"

#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/channel.h"
#include "cri/remote/remote_runtime.h"

namespace keelson::cri {

namespace {

// Copies gigabytes at the pace of the disk.
constexpr absl::Duration kFilesDeadline = kPullDeadline;

template <class Response, class Request>
Task<absl::StatusOr<Response>> CallFiles(std::shared_ptr<GrpcChannel> channel, std::string method,
                                         Request request) {
  auto sent = std::make_shared<Request>(std::move(request));
  auto received = std::make_shared<Response>();
  Task<absl::Status> call =
      channel->Call(StrCat("/keelson.cri.files.ImageFiles/", method), kFilesDeadline, sent, received);
  absl::Status status = co_await std::move(call);
  if (absl::IsUnimplemented(status)) {
    co_return absl::UnimplementedError(StrCat(method, ": the server there is no keelson cri that can do it"));
  }
  if (!status.ok()) co_return status;
  co_return std::move(*received);
}

class RemoteImageFiles : public ImageFilesService {
 public:
  explicit RemoteImageFiles(std::shared_ptr<GrpcChannel> channel) : channel_(std::move(channel)) {}
  Task<absl::StatusOr<files::ImportResponse>> Import(files::ImportRequest request) override {
    return CallFiles<files::ImportResponse>(channel_, "Import", std::move(request));
  }
  Task<absl::StatusOr<files::ExportResponse>> Export(files::ExportRequest request) override {
    return CallFiles<files::ExportResponse>(channel_, "Export", std::move(request));
  }

 private:
  std::shared_ptr<GrpcChannel> channel_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImageFilesService>> ConnectImageFiles(Env& env, const std::string& endpoint) {
  ASSIGN_OR_RETURN(std::string path, SocketPathOf(endpoint));
  return std::make_unique<RemoteImageFiles>(GrpcChannel::Open(env.executor(), endpoint, path));
}

}  // namespace keelson::cri
