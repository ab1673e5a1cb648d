#include "cri/remote/grpc_server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/proto/keelson/image_files.grpc.pb.h"
#include "cri/proto/runtime/v1/service.grpc.pb.h"
#include "cri/remote/remote_runtime.h"
#include "cri/rpcs.h"

namespace keelson::cri {

namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

constexpr mode_t kSocketMask = 0117;  // 0660
// More are refused by gRPC instead of growing without bound; a kubelet has one connection.
constexpr int kMaxStreamsPerConnection = 1000;

// Removes a socket nobody serves.
absl::Status ClearSocket(const std::string& path) {
  sockaddr_un address{};
  if (path.size() > kMaxSocketPathBytes || path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(
        StrCat("listen on ", path, ": the path is longer than ", kMaxSocketPathBytes, " bytes"));
  }
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISSOCK(info.st_mode))
    return absl::FailedPreconditionError(StrCat("listen on ", path, ": it is no socket"));
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return ErrnoStatus(errno, "socket");
  if (::connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN) {
    return absl::AlreadyExistsError(StrCat("listen on ", path, ": another server answers there"));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("remove ", path));
  return absl::OkStatus();
}

// Calls whose client may end them: what they do is undone or harmless when it stops in the middle. All others
// are finished, as the records say; their client asks again.
template <class Request>
inline constexpr bool kEndsWithClient = false;
template <>
inline constexpr bool kEndsWithClient<v1::ExecSyncRequest> = true;  // the command is killed
template <>
inline constexpr bool kEndsWithClient<v1::PullImageRequest> = true;  // the store asks who else waits for it
template <>
inline constexpr bool kEndsWithClient<v1::CheckpointContainerRequest> = true;
template <>
inline constexpr bool kEndsWithClient<v1::CheckpointPodRequest> = true;

// The calls in flight, each with a scope of its own: a client's cancellation reaches its call alone. On the
// loop.
class Calls {
 public:
  explicit Calls(Executor executor) : executor_(std::move(executor)) {}
  const Executor& executor() const { return executor_; }

  void Spawn(std::string_view name, const std::shared_ptr<Scope>& scope, Task<void> task) {
    if (closing_) return;
    std::erase_if(scopes_, [](const std::weak_ptr<Scope>& weak) { return weak.expired(); });
    scopes_.push_back(scope);
    scope->Spawn(name, std::move(task));
  }
  // Cancels and waits. A call that comes later is dropped.
  Task<void> Close() {
    closing_ = true;
    for (const auto& weak : scopes_) {
      if (auto scope = weak.lock()) scope->Cancel();
    }
    while (!scopes_.empty()) {
      std::shared_ptr<Scope> scope = scopes_.back().lock();
      scopes_.pop_back();
      if (scope == nullptr) continue;
      Task<void> close = scope->Close();
      co_await std::move(close);
    }
  }

 private:
  Executor executor_;
  bool closing_ = false;
  std::vector<std::weak_ptr<Scope>> scopes_;
};

// Deletes a reactor on the loop, behind everything posted before and after the last step of its call: the
// call's answer may reach gRPC's threads, and they come back here, before the scope has seen its task end.
template <class Reactor>
void DeleteOnLoop(Reactor* reactor) {
  boost::asio::post(reactor->executor_, [reactor] {
    if (reactor->scope_->live() != 0) return DeleteOnLoop(reactor);
    delete reactor;
  });
}

// Finishes a call once, at the latest when its task is dropped.
template <class Reactor>
class Finisher {
 public:
  explicit Finisher(Reactor* reactor) : reactor_(reactor) {}
  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;
  ~Finisher() { Finish(absl::CancelledError("the client has gone away, or the server is closing")); }
  void Finish(const absl::Status& status) {
    if (reactor_ != nullptr) std::exchange(reactor_, nullptr)->Finish(ToGrpc(status));
  }

 private:
  Reactor* reactor_;
};

// OnCancel comes when the client is gone, has cancelled, or its deadline is over.
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  UnaryCall(Executor executor, bool ends_with_client)
      : executor_(std::move(executor)), ends_with_client_(ends_with_client) {}
  void OnCancel() override {
    if (ends_with_client_) boost::asio::post(executor_, [scope = scope_] { scope->Cancel(); });
  }
  void OnDone() override { DeleteOnLoop(this); }

  Executor executor_;
  std::shared_ptr<Scope> scope_ = std::make_shared<Scope>(executor_);

 private:
  const bool ends_with_client_;
};
using UnaryFinisher = Finisher<UnaryCall>;

template <class Response>
Task<void> AnswerUnary(Task<absl::StatusOr<Response>> call, Response* response,
                       std::shared_ptr<UnaryFinisher> finisher) {
  absl::StatusOr<Response> result = co_await std::move(call);
  if (result.ok()) *response = *std::move(result);
  finisher->Finish(result.status());
}

// One part, then the end. Also the base of the event stream.
template <class Response>
class PartWriter : public grpc::ServerWriteReactor<Response> {
 public:
  explicit PartWriter(Executor executor) : executor_(std::move(executor)) {}
  void OnWriteDone(bool ok) override {
    boost::asio::post(executor_, [this, ok] {
      ok_ = ok;
      written_->Set();
    });
  }
  void OnCancel() override {
    boost::asio::post(executor_, [scope = scope_] { scope->Cancel(); });
  }
  void OnDone() override { DeleteOnLoop(this); }

  Executor executor_;
  std::shared_ptr<AsyncEvent> written_ = std::make_shared<AsyncEvent>();
  std::shared_ptr<Scope> scope_ = std::make_shared<Scope>(executor_);
  bool ok_ = false;
  Response part_;
};

template <class Response>
Task<void> AnswerParts(Task<absl::StatusOr<Response>> call, PartWriter<Response>* writer,
                       std::shared_ptr<Finisher<PartWriter<Response>>> finisher) {
  absl::StatusOr<Response> result = co_await std::move(call);
  if (result.ok()) {
    writer->part_ = *std::move(result);
    std::shared_ptr<AsyncEvent> written = writer->written_;
    writer->StartWrite(&writer->part_);
    Task<void> wait = written->Wait();
    co_await std::move(wait);
    finisher->Finish(absl::OkStatus());
  } else {
    finisher->Finish(result.status());
  }
}

using EventWriter = PartWriter<v1::ContainerEventResponse>;

Task<void> AnswerEvents(RuntimeService* runtime, EventWriter* writer,
                        std::shared_ptr<Finisher<EventWriter>> finisher) {
  auto subscribe = runtime->GetContainerEvents(v1::GetEventsRequest());
  auto reader = co_await std::move(subscribe);
  if (!reader.ok()) {
    finisher->Finish(reader.status());
    co_return;
  }
  while (true) {
    auto next = (*reader)->Next();
    auto event = co_await std::move(next);
    if (!event.ok() || !event->has_value()) {
      finisher->Finish(event.status());
      co_return;
    }
    writer->part_ = **std::move(event);
    std::shared_ptr<AsyncEvent> written = writer->written_;
    written->Reset();
    writer->StartWrite(&writer->part_);
    Task<void> wait = written->Wait();
    co_await std::move(wait);
    if (!writer->ok_) co_return;
  }
}

#define KEELSON_SERVE_UNARY_OF_(Rpc, Request, Response)                                                     \
  grpc::ServerUnaryReactor* Rpc(grpc::CallbackServerContext*, const Request* request, Response* response)   \
      override {                                                                                            \
    auto* call = new UnaryCall(calls_->executor(), kEndsWithClient<Request>);                               \
    auto finisher = std::make_shared<UnaryFinisher>(call);                                                  \
    boost::asio::post(calls_->executor(), [this, calls = calls_, scope = call->scope_, request = *request,  \
                                           response, finisher = std::move(finisher)]() mutable {            \
      calls->Spawn(#Rpc, scope,                                                                             \
                   AnswerUnary<Response>(service_.Rpc(std::move(request)), response, std::move(finisher))); \
    });                                                                                                     \
    return call;                                                                                            \
  }
#define KEELSON_SERVE_UNARY_(Rpc, Request, Response) KEELSON_SERVE_UNARY_OF_(Rpc, v1::Request, v1::Response)
#define KEELSON_SERVE_STREAM_(Rpc, Request, Response)                                                        \
  grpc::ServerWriteReactor<v1::Response>* Rpc(grpc::CallbackServerContext*, const v1::Request* request)      \
      override {                                                                                             \
    auto* writer = new PartWriter<v1::Response>(calls_->executor());                                         \
    auto finisher = std::make_shared<Finisher<PartWriter<v1::Response>>>(writer);                            \
    boost::asio::post(calls_->executor(), [this, calls = calls_, scope = writer->scope_, request = *request, \
                                           writer, finisher = std::move(finisher)]() mutable {               \
      calls->Spawn(                                                                                          \
          #Rpc, scope,                                                                                       \
          AnswerParts<v1::Response>(service_.Rpc(std::move(request)), writer, std::move(finisher)));         \
    });                                                                                                      \
    return writer;                                                                                           \
  }

class RuntimeHandlers : public v1::RuntimeService::CallbackService {
 public:
  RuntimeHandlers(RuntimeService& service, std::shared_ptr<Calls> calls)
      : service_(service), calls_(std::move(calls)) {}
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_SERVE_UNARY_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_SERVE_STREAM_)

  grpc::ServerWriteReactor<v1::ContainerEventResponse>* GetContainerEvents(
      grpc::CallbackServerContext*, const v1::GetEventsRequest*) override {
    auto* writer = new EventWriter(calls_->executor());
    auto finisher = std::make_shared<Finisher<EventWriter>>(writer);
    boost::asio::post(calls_->executor(), [this, calls = calls_, scope = writer->scope_, writer,
                                           finisher = std::move(finisher)]() mutable {
      calls->Spawn("GetContainerEvents", scope, AnswerEvents(&service_, writer, std::move(finisher)));
    });
    return writer;
  }

 private:
  cri::RuntimeService& service_;
  std::shared_ptr<Calls> calls_;
};

class ImageHandlers : public v1::ImageService::CallbackService {
 public:
  ImageHandlers(ImageService& service, std::shared_ptr<Calls> calls)
      : service_(service), calls_(std::move(calls)) {}
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_SERVE_UNARY_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_SERVE_STREAM_)

 private:
  cri::ImageService& service_;
  std::shared_ptr<Calls> calls_;
};

class FilesHandlers : public files::ImageFiles::CallbackService {
 public:
  FilesHandlers(ImageFilesService& service, std::shared_ptr<Calls> calls)
      : service_(service), calls_(std::move(calls)) {}
  KEELSON_SERVE_UNARY_OF_(Import, files::ImportRequest, files::ImportResponse)
  KEELSON_SERVE_UNARY_OF_(Export, files::ExportRequest, files::ExportResponse)

 private:
  ImageFilesService& service_;
  std::shared_ptr<Calls> calls_;
};

class GrpcServerImpl : public GrpcServer {
 public:
  GrpcServerImpl(Env& env, RuntimeService& runtime, ImageService& images, ImageFilesService* files)
      : env_(env),
        calls_(std::make_shared<Calls>(env.executor())),
        runtime_(runtime, calls_),
        images_(images, calls_) {
    if (files != nullptr) files_.emplace(*files, calls_);
  }

  absl::Status Start(const std::string& socket_path) {
    RETURN_IF_ERROR(ClearSocket(socket_path));
    grpc::ServerBuilder builder;
    builder.AddListeningPort(StrCat("unix:", socket_path), grpc::InsecureServerCredentials());
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
    builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
    builder.RegisterService(&runtime_);
    builder.RegisterService(&images_);
    if (files_.has_value()) builder.RegisterService(&*files_);
    // gRPC binds on its own: the mode can only come from the mask.
    mode_t before = ::umask(kSocketMask);
    server_ = builder.BuildAndStart();
    ::umask(before);
    if (server_ == nullptr) return absl::UnavailableError(StrCat("listen on ", socket_path));
    return absl::OkStatus();
  }

  Task<void> Close() override {
    Task<void> close = calls_->Close();
    co_await std::move(close);
    // The rest of the shutdown waits for reactors that finish on this loop: off it.
    Task<bool> stop = env_.Blocking<bool>(StopServer(server_.get()));
    co_await std::move(stop);
    server_.reset();
  }

 private:
  static absl::AnyInvocable<bool()> StopServer(grpc::Server* server) {
    return [server] {
      server->Shutdown(std::chrono::system_clock::now());
      server->Wait();
      return true;
    };
  }

  Env& env_;
  std::shared_ptr<Calls> calls_;
  RuntimeHandlers runtime_;
  ImageHandlers images_;
  std::optional<FilesHandlers> files_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Serve(Env& env, RuntimeService& runtime,
                                                              ImageService& images,
                                                              const std::string& socket_path,
                                                              ImageFilesService* files) {
  auto front = std::make_unique<GrpcServerImpl>(env, runtime, images, files);
  RETURN_IF_ERROR(front->Start(socket_path));
  return front;
}

}  // namespace keelson::cri
