#include "cri/remote/remote_runtime.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/channel.h"
#include "cri/rpcs.h"

namespace keelson::cri {

namespace {

constexpr std::string_view kRuntimePrefix = "/runtime.v1.RuntimeService/";
constexpr std::string_view kImagePrefix = "/runtime.v1.ImageService/";

template <class Response, class Request>
Task<absl::StatusOr<Response>> Unary(std::shared_ptr<GrpcChannel> channel, std::string method,
                                     absl::Duration deadline, Request request) {
  auto sent = std::make_shared<Request>(std::move(request));
  auto received = std::make_shared<Response>();
  Task<absl::Status> call = channel->Call(std::move(method), deadline, sent, received);
  absl::Status status = co_await std::move(call);
  if (!status.ok()) co_return status;
  co_return std::move(*received);
}

// Merges the parts: every Stream* response is one repeated field.
template <class Response, class Request>
Task<absl::StatusOr<Response>> Collected(std::shared_ptr<GrpcChannel> channel, std::string method,
                                         absl::Duration deadline, Request request) {
  std::unique_ptr<MessageStream> stream =
      channel->Stream(method, deadline, std::make_shared<Request>(std::move(request)));
  auto all = std::make_unique<Response>();
  auto part = std::make_unique<Response>();
  size_t bytes = 0;
  while (true) {
    Task<absl::StatusOr<bool>> receive = stream->Receive(part.get());
    absl::StatusOr<bool> more = co_await std::move(receive);
    if (!more.ok()) co_return more.status();
    if (!*more) break;
    bytes += part->ByteSizeLong();
    if (bytes > kMaxStreamedBytes) {
      co_return absl::ResourceExhaustedError(
          StrCat("cri ", method, ": more than ", kMaxStreamedBytes, " bytes streamed"));
    }
    all->MergeFrom(*part);
  }
  co_return std::move(*all);
}

class RemoteEventReader : public ContainerEventReader {
 public:
  explicit RemoteEventReader(std::unique_ptr<MessageStream> stream) : stream_(std::move(stream)) {}

  Task<absl::StatusOr<std::optional<v1::ContainerEventResponse>>> Next() override {
    Task<absl::StatusOr<bool>> receive = stream_->Receive(&event_);
    absl::StatusOr<bool> more = co_await std::move(receive);
    // The stream's own age is no error.
    if (absl::IsDeadlineExceeded(more.status())) co_return std::nullopt;
    if (!more.ok()) co_return more.status();
    if (!*more) co_return std::nullopt;
    std::optional<v1::ContainerEventResponse> event(std::move(event_));
    event_.Clear();
    co_return event;
  }

 private:
  std::unique_ptr<MessageStream> stream_;
  v1::ContainerEventResponse event_;
};

// The deadline of one call; overloads for the requests that bring or need their own.
template <class Request>
absl::Duration DeadlineOf(const RemoteOptions& options, const Request&) {
  return options.call_deadline;
}
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::RunPodSandboxRequest&) {
  return 2 * options.call_deadline;
}
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::PullImageRequest&) {
  return options.pull_deadline;
}
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::StopContainerRequest& request) {
  return options.call_deadline + absl::Seconds(std::max<int64_t>(request.timeout(), 0));
}
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::ExecSyncRequest& request) {
  return request.timeout() > 0 ? options.call_deadline + absl::Seconds(request.timeout())
                               : kUnboundedExecDeadline;
}
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::CheckpointContainerRequest& request) {
  return options.call_deadline + absl::Seconds(std::max<int64_t>(request.timeout(), 0));
}
// All memory of a pod, to disk and back.
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::CheckpointPodRequest&) {
  return options.pull_deadline;
}
absl::Duration DeadlineOf(const RemoteOptions& options, const v1::RestorePodRequest&) {
  return options.pull_deadline;
}

class RemoteRuntimeService : public RuntimeService {
 public:
  RemoteRuntimeService(std::shared_ptr<GrpcChannel> channel, const RemoteOptions& options)
      : channel_(std::move(channel)), options_(options) {}

#define KEELSON_REMOTE_UNARY_(Rpc, Request, Response)                                                 \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override {                              \
    absl::Duration deadline = DeadlineOf(options_, request);                                          \
    return Unary<v1::Response>(channel_, StrCat(kRuntimePrefix, #Rpc), deadline, std::move(request)); \
  }
#define KEELSON_REMOTE_STREAM_(Rpc, Request, Response)                                                    \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override {                                  \
    absl::Duration deadline = DeadlineOf(options_, request);                                              \
    return Collected<v1::Response>(channel_, StrCat(kRuntimePrefix, #Rpc), deadline, std::move(request)); \
  }
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_REMOTE_UNARY_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_REMOTE_STREAM_)
#undef KEELSON_REMOTE_UNARY_
#undef KEELSON_REMOTE_STREAM_

  Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> GetContainerEvents(
      v1::GetEventsRequest request) override {
    std::unique_ptr<MessageStream> stream =
        channel_->Stream(StrCat(kRuntimePrefix, "GetContainerEvents"), kEventStreamAge,
                         std::make_shared<v1::GetEventsRequest>(std::move(request)));
    std::unique_ptr<ContainerEventReader> reader = std::make_unique<RemoteEventReader>(std::move(stream));
    co_return reader;
  }

 private:
  std::shared_ptr<GrpcChannel> channel_;
  RemoteOptions options_;
};

class RemoteImageService : public ImageService {
 public:
  RemoteImageService(std::shared_ptr<GrpcChannel> channel, const RemoteOptions& options)
      : channel_(std::move(channel)), options_(options) {}

#define KEELSON_REMOTE_UNARY_(Rpc, Request, Response)                                               \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override {                            \
    absl::Duration deadline = DeadlineOf(options_, request);                                        \
    return Unary<v1::Response>(channel_, StrCat(kImagePrefix, #Rpc), deadline, std::move(request)); \
  }
#define KEELSON_REMOTE_STREAM_(Rpc, Request, Response)                                                  \
  Task<absl::StatusOr<v1::Response>> Rpc(v1::Request request) override {                                \
    absl::Duration deadline = DeadlineOf(options_, request);                                            \
    return Collected<v1::Response>(channel_, StrCat(kImagePrefix, #Rpc), deadline, std::move(request)); \
  }
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_REMOTE_UNARY_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_REMOTE_STREAM_)
#undef KEELSON_REMOTE_UNARY_
#undef KEELSON_REMOTE_STREAM_

 private:
  std::shared_ptr<GrpcChannel> channel_;
  RemoteOptions options_;
};

class RemoteRuntimeImpl : public RemoteRuntime {
 public:
  RemoteRuntimeImpl(std::shared_ptr<GrpcChannel> runtime, std::shared_ptr<GrpcChannel> images,
                    RemoteOptions options)
      : runtime_(std::move(runtime), options), images_(std::move(images), options) {}
  RuntimeService& runtime() override { return runtime_; }
  ImageService& images() override { return images_; }

 private:
  RemoteRuntimeService runtime_;
  RemoteImageService images_;
};

}  // namespace

absl::StatusOr<std::string> SocketPathOf(const std::string& endpoint) {
  std::string path = endpoint;
  if (path.starts_with("unix://")) {
    path = path.substr(7);
  } else if (path.starts_with("unix:")) {
    path = path.substr(5);
  }
  if (path.empty() || path[0] != '/') {
    return absl::InvalidArgumentError(
        StrCat("container runtime endpoint \"", endpoint, "\": want unix:///path/of/the.sock"));
  }
  if (path.size() > kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(StrCat("container runtime endpoint \"", endpoint,
                                             "\": the path is longer than ", kMaxSocketPathBytes, " bytes"));
  }
  return path;
}

absl::StatusOr<std::unique_ptr<RemoteRuntime>> RemoteRuntime::Create(Env& env, RemoteOptions options) {
  ASSIGN_OR_RETURN(std::string path, SocketPathOf(options.endpoint));
  auto runtime = GrpcChannel::Open(env.executor(), options.endpoint, path);
  auto images = runtime;
  if (!options.image_endpoint.empty() && options.image_endpoint != options.endpoint) {
    ASSIGN_OR_RETURN(std::string image_path, SocketPathOf(options.image_endpoint));
    images = GrpcChannel::Open(env.executor(), options.image_endpoint, image_path);
  }
  return std::make_unique<RemoteRuntimeImpl>(std::move(runtime), std::move(images), std::move(options));
}

}  // namespace keelson::cri
