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
constexpr char kPrefix[] = "/keelson.cri.files.ImageFiles/";

absl::Status NotOurs(const std::string& method) {
  return absl::UnimplementedError(StrCat(method, ": the server there is no keelson cri that can do it"));
}

template <class Response, class Request>
Task<absl::StatusOr<Response>> CallFiles(std::shared_ptr<GrpcChannel> channel, std::string method,
                                         Request request) {
  auto sent = std::make_shared<Request>(std::move(request));
  auto received = std::make_shared<Response>();
  Task<absl::Status> call = channel->Call(StrCat(kPrefix, method), kFilesDeadline, sent, received);
  absl::Status status = co_await std::move(call);
  if (absl::IsUnimplemented(status)) {
    co_return NotOurs(method);
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
  Task<absl::StatusOr<std::string>> Pull(files::PullRequest request,
                                         PullProgressHandler on_progress) override {
    std::unique_ptr<MessageStream> stream = channel_->Stream(
        StrCat(kPrefix, "Pull"), kFilesDeadline, std::make_shared<files::PullRequest>(std::move(request)));
    files::PullPart part;
    while (true) {
      Task<absl::StatusOr<bool>> receive = stream->Receive(&part);
      absl::StatusOr<bool> more = co_await std::move(receive);
      if (absl::IsUnimplemented(more.status())) co_return NotOurs("Pull");
      if (!more.ok()) co_return more.status();
      if (!*more) co_return absl::InternalError("Pull: the server ended without a result");
      if (!part.image_id().empty()) co_return part.image_id();
      on_progress(part.progress());
      part.Clear();
    }
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
