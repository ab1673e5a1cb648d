// The streaming server under a stock kubectl, without runtime, kubelet or API server: one made-up pod "p"
// whose commands are run on this machine. For kubectl_test, and to try things by hand:
//
//   kubectl_demo            prints the port, serves until its standard input ends
//   kubectl --server http://127.0.0.1:PORT exec p -- ls
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/streaming/streaming.h"
#include "net/http_server.h"
#include "net/socket.h"
#include "net/upgrade_proxy.h"

namespace keelson::cri {
namespace {

constexpr char kPod[] =
    R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default"},)"
    R"("spec":{"containers":[{"name":"main","image":"i","stdin":true}]},"status":{"phase":"Running"}})";
constexpr char kResources[] =
    R"({"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod",)"
    R"("namespaced":true,"kind":"Pod","verbs":["get","list"],"shortNames":["po"]}]})";

using StreamPtr = std::shared_ptr<net::ByteStream>;

// Our end as a stream, the child's as a descriptor.
std::pair<StreamPtr, Fd> Plug(Executor executor) {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  std::shared_ptr<net::Socket> socket = net::Socket::Make(executor, Fd(fds[0]));
  return {net::MakeSocketStream(net::SocketOwner(std::move(socket)), ""), Fd(fds[1])};
}

Task<void> FeedStdin(StreamSession* session, StreamPtr to, std::shared_ptr<AsyncEvent> done) {
  for (;;) {
    Task<absl::StatusOr<std::string>> read = session->ReadStdin();
    absl::StatusOr<std::string> piece = co_await std::move(read);
    if (!piece.ok() || piece->empty()) break;
    Task<absl::Status> write = to->Write(*piece);
    absl::Status status = co_await std::move(write);
    if (!status.ok()) break;
  }
  Task<absl::Status> close = to->CloseWrite();
  (void)co_await std::move(close);
  done->Set();
}

Task<void> CopyOutput(StreamSession* session, StreamPtr from, bool is_stdout,
                      std::shared_ptr<AsyncEvent> done) {
  char buffer[16384];
  for (;;) {
    Task<absl::StatusOr<size_t>> read = from->Read(buffer, sizeof buffer);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok() || *n == 0) break;
    std::string_view data(buffer, *n);
    Task<absl::Status> write = is_stdout ? session->WriteStdout(data) : session->WriteStderr(data);
    absl::Status status = co_await std::move(write);
    if (!status.ok()) break;
  }
  done->Set();
}

class HostBackend : public StreamingBackend {
 public:
  explicit HostBackend(Env& env) : env_(env), scope_(env.executor()) {}

  Task<absl::StatusOr<int>> Exec(v1::ExecRequest request, StreamSession* session) override {
    if (request.cmd(0) == "sizes") {
      Task<absl::StatusOr<int>> sizes = PrintSizes(session);
      co_return co_await std::move(sizes);
    }
    auto [in, in_fd] = Plug(env_.executor());
    auto [out, out_fd] = Plug(env_.executor());
    auto [err, err_fd] = Plug(env_.executor());
    SpawnOptions options;
    options.argv.assign(request.cmd().begin(), request.cmd().end());
    options.stdin_fd = in_fd.get();
    options.stdout_fd = out_fd.get();
    options.stderr_fd = err_fd.get();
    CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<ChildProcess> child, env_.subprocess().Spawn(options));
    for (Fd* fd : {&in_fd, &out_fd, &err_fd}) fd->reset();
    auto in_done = std::make_shared<AsyncEvent>(), out_done = std::make_shared<AsyncEvent>(),
         err_done = std::make_shared<AsyncEvent>();
    scope_.Spawn("stdin", FeedStdin(session, in, in_done));
    scope_.Spawn("stdout", CopyOutput(session, out, true, out_done));
    scope_.Spawn("stderr", CopyOutput(session, err, false, err_done));
    Task<int> wait = child->Wait();
    int status = co_await std::move(wait);
    for (const std::shared_ptr<AsyncEvent>& done : {out_done, err_done}) {
      Task<void> end = done->Wait();
      co_await std::move(end);
    }
    co_return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  Task<absl::StatusOr<int>> PrintSizes(StreamSession* session) {
    for (;;) {
      Task<absl::StatusOr<TerminalSize>> next = session->NextResize();
      absl::StatusOr<TerminalSize> size = co_await std::move(next);
      if (!size.ok()) co_return 1;
      std::string text = StrCat(size->rows, " ", size->columns, "\r\n");
      Task<absl::Status> write = session->WriteStdout(text);
      (void)co_await std::move(write);
      if (size->columns != 0) co_return 0;
    }
  }

  Task<absl::Status> Attach(v1::AttachRequest, StreamSession* session) override {
    for (;;) {
      Task<absl::StatusOr<std::string>> read = session->ReadStdin();
      absl::StatusOr<std::string> piece = co_await std::move(read);
      if (!piece.ok() || piece->empty()) co_return absl::OkStatus();
      std::string text = "got " + *piece;
      Task<absl::Status> write = session->WriteStdout(text);
      (void)co_await std::move(write);
    }
  }

  Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> DialPort(std::string, uint16_t port) override {
    net::HttpEndpoint endpoint;
    endpoint.host = "127.0.0.1";
    endpoint.port = port;
    return net::Connect(&env_, std::move(endpoint), absl::Seconds(5));
  }
  Task<void> Close() { return scope_.Close(); }

 private:
  Env& env_;
  Scope scope_;
};

// As much of an API server as kubectl asks for.
class Front : public net::HttpHandler {
 public:
  Front(Env& env, StreamingServer& streaming)
      : env_(env), streaming_(streaming), client_(&env, net::HttpClientOptions()), scope_(env.executor()) {}

  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override {
    const std::string& path = request.target.path;
    const size_t slash = path.rfind('/');
    const std::string last = path.substr(slash + 1);
    if (last == "exec" || last == "attach" || last == "portforward") {
      absl::Status status = net::CheckUpgrade(request);
      absl::StatusOr<std::string> url = Url(last, request.target.query);
      if (status.ok()) status = url.status();
      if (status.ok()) {
        net::HttpUrl parsed = *net::HttpUrl::Parse(*url);
        net::UpgradeProxy proxy;
        proxy.client = &client_;
        proxy.scope = &scope_;
        proxy.clock = &env_.clock();
        Task<absl::StatusOr<std::optional<net::UpgradeRefusal>>> run = net::ProxyUpgrade(
            proxy, net::HttpEndpoint::FromUrl(parsed, nullptr), parsed.target, std::move(request), &writer);
        absl::StatusOr<std::optional<net::UpgradeRefusal>> refusal = co_await std::move(run);
        if (refusal.ok() && !refusal->has_value()) co_return;
        status = refusal.ok() ? absl::InvalidArgumentError((*refusal)->body) : refusal.status();
      }
      net::HttpResponse response(400, "text/plain", std::string(status.message()));
      Task<absl::Status> send = writer.Send(std::move(response));
      (void)co_await std::move(send);
      co_return;
    }
    std::string body = last == "p"         ? kPod
                       : path == "/api"    ? R"({"kind":"APIVersions","versions":["v1"]})"
                       : path == "/apis"   ? R"({"kind":"APIGroupList","apiVersion":"v1","groups":[]})"
                       : path == "/api/v1" ? kResources
                                           : "";
    const int code = body.empty() ? 404 : 200;
    net::HttpResponse response(code, "application/json", std::move(body));
    Task<absl::Status> send = writer.Send(std::move(response));
    (void)co_await std::move(send);
  }
  Task<void> Close() { return scope_.Close(); }

 private:
  absl::StatusOr<std::string> Url(const std::string& what, const net::QueryParams& query) {
    const bool tty = query.Get("tty") == "true";
    if (what == "portforward") {
      v1::PortForwardRequest request;
      request.set_pod_sandbox_id("sandbox");
      return streaming_.PortForwardUrl(request);
    }
    if (what == "attach") {
      v1::AttachRequest request;
      request.set_stdin(query.Get("stdin") == "true");
      request.set_stdout(true);
      request.set_stderr(query.Get("stderr") == "true");
      request.set_tty(tty);
      return streaming_.AttachUrl(request);
    }
    v1::ExecRequest request;
    for (std::string_view word : query.GetAll("command")) request.add_cmd(std::string(word));
    request.set_stdin(query.Get("stdin") == "true");
    request.set_stdout(true);
    request.set_stderr(query.Get("stderr") == "true");
    request.set_tty(tty);
    return streaming_.ExecUrl(request);
  }

  Env& env_;
  StreamingServer& streaming_;
  net::HttpClient client_;
  Scope scope_;
};

Task<absl::Status> Serve(Env* env) {
  HostBackend backend(*env);
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<StreamingServer> streaming,
                           StreamingServer::Start(*env, backend, StreamingOptions()));
  Front front(*env, *streaming);
  net::HttpServer server(env->executor(), &env->clock(), &front, net::HttpServerOptions());
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t port, server.ListenTcp(listen));
  std::printf("%d\n", port);
  std::fflush(stdout);
  Task<bool> read = env->Blocking<bool>([] {
    char c;
    while (::read(0, &c, 1) > 0) {
    }
    return true;
  });
  (void)co_await std::move(read);
  Task<void> close = server.Close();
  co_await std::move(close);
  Task<void> close_front = front.Close();
  co_await std::move(close_front);
  Task<void> close_streaming = streaming->Close();
  co_await std::move(close_streaming);
  Task<void> close_backend = backend.Close();
  co_await std::move(close_backend);
  co_return absl::OkStatus();
}

}  // namespace
}  // namespace keelson::cri

int main() {
  keelson::RealEnv env{keelson::Paths()};
  absl::Status status = env.RunUntilDone(keelson::cri::Serve(&env));
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
