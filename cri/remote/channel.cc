#include "cri/remote/channel.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <boost/asio/post.hpp>
#include <condition_variable>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/remote_runtime.h"

namespace keelson::cri {

namespace {

constexpr int kMaxForeignMessageBytes = 64 << 10;  // of a server that anybody may have written

using google::protobuf::Message;
using google::protobuf::MessageLite;
// The stub's template on MessageLite serialises any message: one instance for all 43 RPCs.
using Stub = grpc::TemplatedGenericStub<MessageLite, MessageLite>;

gpr_timespec DeadlineIn(absl::Duration duration) {
  // On the monotonic clock: a jump of the wall clock must not time out every call.
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(duration), GPR_TIMESPAN));
}

std::string RpcName(const std::string& method) { return method.substr(method.rfind('/') + 1); }

// The calls gRPC still holds something of. Shared by the threads of gRPC and the loop.
class InFlight {
 public:
  void Add(grpc::ClientContext* context) {
    std::lock_guard lock(mutex_);
    contexts_.insert(context);
  }
  // Before the call's end is posted: once the loop knows of it the context may be gone, and its address
  // another call's. The loop may destroy what this belongs to as soon as it returns.
  void Remove(grpc::ClientContext* context) {
    std::lock_guard lock(mutex_);
    contexts_.erase(context);
    if (contexts_.empty()) idle_.notify_all();
  }
  void CancelAndWait() {
    std::unique_lock lock(mutex_);
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
    idle_.wait(lock, [&] { return contexts_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_set<grpc::ClientContext*> contexts_;
};

// What gRPC's threads use. It lives until none of them holds a call (InFlight::CancelAndWait), and is
// destroyed on the loop: the channel's destructor joins those threads.
struct Shared {
  Executor executor;
  std::string endpoint;  // of a container runtime; "" : of something else
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<Stub> stub;
  InFlight in_flight;
};

absl::Status ToStatus(const grpc::Status& status, const std::string& method, const std::string& endpoint) {
  if (status.ok()) return absl::OkStatus();
  // gRPC's codes are absl's.
  auto code = static_cast<absl::StatusCode>(status.error_code());
  if (endpoint.empty()) return absl::Status(code, status.error_message());
  std::string message = StrCat("cri ", RpcName(method), ": ", status.error_message());
  if (code == absl::StatusCode::kUnavailable) StrAppend(&message, " (container runtime at ", endpoint, ")");
  return absl::Status(code, message);
}

struct UnaryCall {
  grpc::ClientContext context;
  std::string method;
  std::shared_ptr<Message> request, response;
  grpc::Status status;
  AsyncEvent done;  // the loop's
};

// Cancels the call when its awaiting coroutine goes away before the end.
class CancelUnlessDone {
 public:
  explicit CancelUnlessDone(std::shared_ptr<UnaryCall> call) : call_(std::move(call)) {}
  CancelUnlessDone(const CancelUnlessDone&) = delete;
  CancelUnlessDone& operator=(const CancelUnlessDone&) = delete;
  ~CancelUnlessDone() {
    if (!call_->done.is_set()) call_->context.TryCancel();
  }

 private:
  std::shared_ptr<UnaryCall> call_;
};

void StartUnary(Shared* shared, std::shared_ptr<UnaryCall> call) {
  UnaryCall* raw = call.get();
  shared->in_flight.Add(&raw->context);
  shared->stub->UnaryCall(&raw->context, raw->method, grpc::StubOptions(), raw->request.get(),
                          raw->response.get(), [shared, call = std::move(call)](grpc::Status status) mutable {
                            call->status = std::move(status);
                            Executor executor = shared->executor;
                            shared->in_flight.Remove(&call->context);
                            // The last reference goes with the posted handler, on the loop.
                            boost::asio::post(executor, [call = std::move(call)] { call->done.Set(); });
                          });
}

// The reactor of one stream: a request, then reads on demand. Held by gRPC until OnDone and by its reader.
class StreamCall : public grpc::ClientBidiReactor<MessageLite, MessageLite>,
                   public std::enable_shared_from_this<StreamCall> {
 public:
  StreamCall(Shared* shared, std::string method, std::shared_ptr<Message> request)
      : shared_(shared), method_(std::move(method)), request_(std::move(request)) {}

  void Start(absl::Duration deadline) {
    context_.set_deadline(DeadlineIn(deadline));
    self_ = shared_from_this();
    shared_->in_flight.Add(&context_);
    shared_->stub->PrepareBidiStreamingCall(&context_, method_, grpc::StubOptions(), this);
    StartWriteLast(request_.get(), grpc::WriteOptions());
    AddHold();  // reads are started from the loop, outside reactions; released by the last one or by
                // Abandon()
    StartCall();
  }

  Task<absl::StatusOr<bool>> Receive(std::shared_ptr<StreamCall> self, Message* message) {
    if (finished_.is_set()) co_return FinalStatus();
    if (!reading_ && held_) {
      reading_ = true;
      read_ = false;
      if (part_ == nullptr) part_.reset(message->New());
      progress_.Reset();
      StartRead(part_.get());
    }
    while (reading_) {
      Task<void> wait = progress_.Wait();
      co_await std::move(wait);
    }
    if (read_) {
      message->GetReflection()->Swap(message, part_.get());
      part_->Clear();
      co_return true;
    }
    // No more parts: the status comes with OnDone, which waits for the hold. No read is started after this.
    ReleaseHold();
    Task<void> end = finished_.Wait();
    co_await std::move(end);
    co_return FinalStatus();
  }

  // ---- on gRPC's threads ----
  void OnReadDone(bool ok) override {
    boost::asio::post(shared_->executor, [self = shared_from_this(), ok] {
      self->reading_ = false;
      self->read_ = ok;
      self->progress_.Set();
    });
  }
  void OnDone(const grpc::Status& status) override {
    Executor executor = shared_->executor;
    shared_->in_flight.Remove(&context_);
    boost::asio::post(executor, [self = std::move(self_), status] {
      self->status_ = status;
      self->finished_.Set();
    });
  }

  // From the loop, when nobody reads any more.
  void Abandon() {
    context_.TryCancel();
    ReleaseHold();
  }

 private:
  void ReleaseHold() {
    if (std::exchange(held_, false)) RemoveHold();
  }
  absl::StatusOr<bool> FinalStatus() const {
    if (status_.ok()) return false;
    return ToStatus(status_, method_, shared_->endpoint);
  }

  Shared* shared_;
  std::string method_;
  std::shared_ptr<Message> request_;
  grpc::ClientContext context_;
  std::shared_ptr<StreamCall> self_;  // gRPC's reference
  // The loop's:
  bool held_ = true;
  bool reading_ = false, read_ = false;
  std::unique_ptr<Message> part_;
  AsyncEvent progress_, finished_;
  grpc::Status status_;
};

class StreamHandle : public MessageStream {
 public:
  StreamHandle(std::shared_ptr<GrpcChannel> channel, std::shared_ptr<StreamCall> call)
      : channel_(std::move(channel)), call_(std::move(call)) {}
  ~StreamHandle() override { call_->Abandon(); }
  Task<absl::StatusOr<bool>> Receive(Message* message) override { return call_->Receive(call_, message); }

 private:
  std::shared_ptr<GrpcChannel> channel_;  // outlives the call
  std::shared_ptr<StreamCall> call_;
};

class GrpcChannelImpl : public GrpcChannel, public std::enable_shared_from_this<GrpcChannelImpl> {
 public:
  explicit GrpcChannelImpl(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~GrpcChannelImpl() override { shared_->in_flight.CancelAndWait(); }

  Task<absl::Status> Call(std::string method, absl::Duration deadline, std::shared_ptr<Message> request,
                          std::shared_ptr<Message> response) override {
    auto call = std::make_shared<UnaryCall>();
    call->method = std::move(method);
    call->request = std::move(request);
    call->response = std::move(response);
    call->context.set_deadline(DeadlineIn(deadline));
    CancelUnlessDone guard(call);
    StartUnary(shared_.get(), call);
    Task<void> wait = call->done.Wait();
    co_await std::move(wait);
    co_return ToStatus(call->status, call->method, shared_->endpoint);
  }

  std::unique_ptr<MessageStream> Stream(std::string method, absl::Duration deadline,
                                        std::shared_ptr<Message> request) override {
    auto call = std::make_shared<StreamCall>(shared_.get(), std::move(method), std::move(request));
    call->Start(deadline);
    return std::make_unique<StreamHandle>(shared_from_this(), std::move(call));
  }

 private:
  std::unique_ptr<Shared> shared_;
};

// Nothing of a balancing, proxied, retrying client is wanted for one server near by.
grpc::ChannelArguments PlainArguments(const std::string& authority) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, authority);
  return arguments;
}

std::shared_ptr<GrpcChannel> OpenChannel(Executor executor, std::string endpoint, const std::string& target,
                                         const grpc::ChannelArguments& arguments) {
  auto shared = std::make_unique<Shared>();
  shared->executor = std::move(executor);
  shared->endpoint = std::move(endpoint);
  shared->channel = grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
  shared->stub = std::make_unique<Stub>(shared->channel);
  return std::make_shared<GrpcChannelImpl>(std::move(shared));
}

}  // namespace

std::shared_ptr<GrpcChannel> GrpcChannel::Open(Executor executor, std::string endpoint,
                                               std::string socket_path) {
  // Go servers refuse the escaped path gRPC would send as authority.
  grpc::ChannelArguments arguments = PlainArguments("localhost");
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(kReconnectBackoffMin)));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(kReconnectBackoffMax)));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(kConnectTimeout)));
  return OpenChannel(std::move(executor), std::move(endpoint), StrCat("unix:", socket_path), arguments);
}

std::shared_ptr<GrpcChannel> GrpcChannel::OpenTcp(Executor executor, const std::string& host_and_port,
                                                  const std::string& user_agent) {
  grpc::ChannelArguments arguments = PlainArguments(host_and_port);
  arguments.SetMaxReceiveMessageSize(kMaxForeignMessageBytes);
  arguments.SetUserAgentPrefix(user_agent);
  return OpenChannel(std::move(executor), "",
                     StrCat(host_and_port.starts_with('[') ? "ipv6:" : "ipv4:", host_and_port), arguments);
}

}  // namespace keelson::cri
