// Requests per second and server CPU of HttpServer over TLS: one server thread, one loader thread, keep-alive
// connections that each wait for their answer. Usage: net_http_bench [connections] [seconds] [plain] [body
// bytes]
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "base/env.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/pki.h"

namespace keelson::net {
namespace {

class FixedHandler : public HttpHandler {
 public:
  explicit FixedHandler(size_t body_bytes) : body_(MakeSharedBytes(std::string(body_bytes, 'x'))) {}
  Task<void> Handle(HttpRequest request, ResponseWriter& writer) override { return Answer(&writer); }

 private:
  Task<void> Answer(ResponseWriter* writer) {
    HttpResponse response(200, "application/json", body_);
    Task<absl::Status> send = writer->Send(std::move(response));
    co_await std::move(send);
  }
  SharedBytes body_;
};

double ThreadCpuSeconds() {
  rusage usage;
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

struct Loader {
  RealEnv env{Paths()};
  HttpClient client{&env, HttpClientOptions()};
  HttpEndpoint endpoint;
  absl::Duration end;
  std::vector<double> latencies_ms;
  uint64_t errors = 0;
  size_t running = 0;
  AsyncEvent idle;
};

Task<void> OneConnection(Loader* loader) {
  Clock& clock = loader->env.clock();
  while (clock.Monotonic() < loader->end) {
    absl::Duration start = clock.Monotonic();
    HttpClientRequest request;
    request.target = "/api/v1/namespaces/default/configmaps/bench-00001";
    request.headers.Add("Accept", "application/json");
    Task<absl::StatusOr<HttpClientResponse>> call = loader->client.Do(loader->endpoint, std::move(request));
    absl::StatusOr<HttpClientResponse> response = co_await std::move(call);
    if (!response.ok() || response->status != 200) ++loader->errors;
    loader->latencies_ms.push_back(absl::ToDoubleMilliseconds(clock.Monotonic() - start));
  }
  if (--loader->running == 0) loader->idle.Set();
}

Task<absl::Status> Load(Loader* loader, size_t connections, absl::Duration duration) {
  Scope scope(loader->env.executor());
  loader->end = loader->env.clock().Monotonic() + duration;
  loader->running = connections;
  for (size_t i = 0; i < connections; ++i) scope.Spawn("load", OneConnection(loader));
  Task<void> wait = loader->idle.Wait();
  co_await std::move(wait);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

Task<absl::Status> ServeUntil(AsyncEvent* stop, HttpServer* server, double* cpu_s) {
  Task<void> wait = stop->Wait();
  co_await std::move(wait);
  *cpu_s = ThreadCpuSeconds();
  Task<void> close = server->Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

int Main(int argc, char** argv) {
  size_t connections = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64;
  int seconds = argc > 2 ? std::atoi(argv[2]) : 5;
  bool plain = argc > 3 && std::string_view(argv[3]) == "plain";
  size_t body_bytes = argc > 4 ? std::strtoul(argv[4], nullptr, 10) : 1024;

  CertificateAuthority ca = *CertificateAuthority::Create("bench", absl::Now());
  CertificateSpec spec;
  spec.common_name = "server";
  spec.ip_addresses = {"127.0.0.1"};
  spec.server = true;
  KeyPair pair = *ca.Issue(spec, absl::Now());
  TlsServerConfig server_tls;
  server_tls.certificate_pem = pair.certificate_pem;
  server_tls.private_key_pem = pair.private_key_pem;
  TlsClientConfig client_tls;
  client_tls.ca_pem = ca.certificate_pem();

  RealEnv server_env{Paths()};
  FixedHandler handler(body_bytes);
  HttpServer server(server_env.executor(), &server_env.clock(), &handler, HttpServerOptions());
  HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  if (!plain) listen.tls = *TlsServerContext::Create(server_tls);
  Loader loader;
  loader.endpoint.host = "127.0.0.1";
  loader.endpoint.port = *server.ListenTcp(listen);
  if (!plain) loader.endpoint.tls = *TlsClientContext::Create(client_tls);

  double server_cpu = 0;
  AsyncEvent stop;
  std::thread server_thread(
      [&] { (void)server_env.RunUntilDone(ServeUntil(&stop, &server, &server_cpu)).ok(); });
  (void)loader.env.RunUntilDone(Load(&loader, connections, absl::Seconds(seconds))).ok();
  double loader_cpu = ThreadCpuSeconds();
  boost::asio::post(server_env.executor(), [&] { stop.Set(); });
  server_thread.join();

  std::vector<double>& all = loader.latencies_ms;
  std::sort(all.begin(), all.end());
  double count = static_cast<double>(all.size());
  std::printf("%s, %zu connections, %zu bytes: %.0f requests/s, p50 %.3f ms, p99 %.3f ms, errors %llu\n",
              plain ? "plain" : "TLS", connections, body_bytes, count / seconds, all[all.size() / 2],
              all[all.size() * 99 / 100], static_cast<unsigned long long>(loader.errors));
  std::printf("server CPU %.1f us per request (%.0f%% of a core), loader CPU %.1f us\n",
              server_cpu * 1e6 / count, server_cpu * 100 / seconds, loader_cpu * 1e6 / count);
  return 0;
}

}  // namespace
}  // namespace keelson::net

int main(int argc, char** argv) { return keelson::net::Main(argc, argv); }
