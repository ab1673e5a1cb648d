#include "cri/remote/grpc_server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/post.hpp>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
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

// Finishes a call once, at the latest when its task is dropped.
template <class Reactor>
class Finisher {
 public:
  explicit Finisher(Reactor* reactor) : reactor_(reactor) {}
  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;
  ~Finisher() { Finish(absl::CancelledError("the server is closing")); }
  void Finish(const absl::Status& status) {
    if (reactor_ != nullptr) std::exchange(reactor_, nullptr)->Finish(ToGrpc(status));
  }

 private:
  Reactor* reactor_;
};
using UnaryFinisher = Finisher<grpc::ServerUnaryReactor>;

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
  // Deleted on the loop, behind everything posted before.
  void OnDone() override {
    boost::asio::post(executor_, [this] { delete this; });
  }

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

#define KEELSON_SERVE_UNARY_(Rpc, Request, Response)                                                         \
  grpc::ServerUnaryReactor* Rpc(grpc::CallbackServerContext* context, const v1::Request* request,            \
                                v1::Response* response) override {                                           \
    auto* reactor = context->DefaultReactor();                                                               \
    auto finisher = std::make_shared<UnaryFinisher>(reactor);                                                \
    boost::asio::post(scope_->executor(), [this, scope = scope_, request = *request, response,               \
                                           finisher = std::move(finisher)]() mutable {                       \
      scope->Spawn(                                                                                          \
          #Rpc, AnswerUnary<v1::Response>(service_.Rpc(std::move(request)), response, std::move(finisher))); \
    });                                                                                                      \
    return reactor;                                                                                          \
  }
#define KEELSON_SERVE_STREAM_(Rpc, Request, Response)                                                      \
  grpc::ServerWriteReactor<v1::Response>* Rpc(grpc::CallbackServerContext*, const v1::Request* request)    \
      override {                                                                                           \
    auto* writer = new PartWriter<v1::Response>(scope_->executor());                                       \
    auto finisher = std::make_shared<Finisher<PartWriter<v1::Response>>>(writer);                          \
    boost::asio::post(scope_->executor(), [this, scope = scope_, request = *request, writer,               \
                                           finisher = std::move(finisher)]() mutable {                     \
      scope->Spawn(                                                                                        \
          #Rpc, AnswerParts<v1::Response>(service_.Rpc(std::move(request)), writer, std::move(finisher))); \
    });                                                                                                    \
    return writer;                                                                                         \
  }

class RuntimeHandlers : public v1::RuntimeService::CallbackService {
 public:
  RuntimeHandlers(RuntimeService& service, std::shared_ptr<Scope> scope)
      : service_(service), scope_(std::move(scope)) {}
  KEELSON_CRI_RUNTIME_UNARY_RPCS(KEELSON_SERVE_UNARY_)
  KEELSON_CRI_RUNTIME_STREAM_RPCS(KEELSON_SERVE_STREAM_)

  grpc::ServerWriteReactor<v1::ContainerEventResponse>* GetContainerEvents(
      grpc::CallbackServerContext*, const v1::GetEventsRequest*) override {
    auto* writer = new EventWriter(scope_->executor());
    auto finisher = std::make_shared<Finisher<EventWriter>>(writer);
    boost::asio::post(
        scope_->executor(), [this, scope = scope_, writer, finisher = std::move(finisher)]() mutable {
          if (scope->closing()) return;
          // Its own scope, so that the client's cancellation reaches it.
          writer->scope_->Spawn("GetContainerEvents", AnswerEvents(&service_, writer, std::move(finisher)));
          std::erase_if(events_, [](const std::weak_ptr<Scope>& weak) { return weak.expired(); });
          events_.push_back(writer->scope_);
        });
    return writer;
  }
  // On the loop.
  void CancelEvents() {
    for (auto& weak : events_) {
      if (auto scope = weak.lock()) scope->Cancel();
    }
  }

 private:
  cri::RuntimeService& service_;
  std::shared_ptr<Scope> scope_;
  std::vector<std::weak_ptr<Scope>> events_;
};

class ImageHandlers : public v1::ImageService::CallbackService {
 public:
  ImageHandlers(ImageService& service, std::shared_ptr<Scope> scope)
      : service_(service), scope_(std::move(scope)) {}
  KEELSON_CRI_IMAGE_UNARY_RPCS(KEELSON_SERVE_UNARY_)
  KEELSON_CRI_IMAGE_STREAM_RPCS(KEELSON_SERVE_STREAM_)

 private:
  cri::ImageService& service_;
  std::shared_ptr<Scope> scope_;
};

class GrpcServerImpl : public GrpcServer {
 public:
  GrpcServerImpl(Env& env, RuntimeService& runtime, ImageService& images)
      : env_(env),
        scope_(std::make_shared<Scope>(env.executor())),
        runtime_(runtime, scope_),
        images_(images, scope_) {}

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
    // gRPC binds on its own: the mode can only come from the mask.
    mode_t before = ::umask(kSocketMask);
    server_ = builder.BuildAndStart();
    ::umask(before);
    if (server_ == nullptr) return absl::UnavailableError(StrCat("listen on ", socket_path));
    return absl::OkStatus();
  }

  Task<void> Close() override {
    runtime_.CancelEvents();
    Task<void> close = scope_->Close();
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
  std::shared_ptr<Scope> scope_;
  RuntimeHandlers runtime_;
  ImageHandlers images_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Serve(Env& env, RuntimeService& runtime,
                                                              ImageService& images,
                                                              const std::string& socket_path) {
  auto front = std::make_unique<GrpcServerImpl>(env, runtime, images);
  RETURN_IF_ERROR(front->Start(socket_path));
  return front;
}

}  // namespace keelson::cri
