#include "client/http_api_client.h"

#include <gtest/gtest.h>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "api/meta/v1/watch.pb.h"
#include "api/status_error.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/http_server.h"

namespace keelson::client {
namespace {

namespace corev1 = ::k8s::core::v1;

constexpr char kPod[] =
    R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"d","resourceVersion":"5"}})";

// A server with canned answers that records what it was asked.
class CannedServer : public net::HttpHandler {
 public:
  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override {
    calls.push_back(StrCat(request.method, " ", request.target.path, "?", request.target.raw_query));
    if (request.target.query.Has("watch")) {
      Task<absl::Status> start =
          writer.StartStream(200, net::HttpHeaders({{"Content-Type", "application/json"}}));
      (void)co_await std::move(start);
      for (const std::string& piece : watch_pieces) {
        Task<absl::Status> write = writer.Write(net::MakeSharedBytes(piece));
        (void)co_await std::move(write);
      }
      co_return;
    }
    net::HttpResponse response(status, "application/json", net::HttpBody(body));
    Task<absl::Status> send = writer.Send(std::move(response));
    (void)co_await std::move(send);
  }
  int status = 200;
  std::string body = kPod;
  std::vector<std::string> watch_pieces;
  std::vector<std::string> calls;
};

Task<absl::Status> Exercise(RealEnv* env, CannedServer* canned, net::HttpServer* server) {
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t port, server->ListenTcp(listen));
  KubeConfig config;
  config.server = StrCat("http://127.0.0.1:", port);
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<ApiClient> client, NewHttpApiClient(*env, config));

  CO_ASSIGN_OR_RETURN(std::shared_ptr<const corev1::Pod> pod, client->Get<corev1::Pod>("d", "a"));
  EXPECT_EQ(pod->metadata().resource_version(), "5");
  EXPECT_EQ(canned->calls.back(), "GET /api/v1/namespaces/d/pods/a?");

  canned->body = StrCat(R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[)",
                        R"({"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]})");
  ListOptions options;
  options.field_selector = "spec.nodeName=n1";
  CO_ASSIGN_OR_RETURN(ObjectList list, client->List(GvrOf<corev1::Pod>(), "", options));
  EXPECT_EQ(list.resource_version, "9");
  EXPECT_EQ(list.items.size(), 2u);
  EXPECT_EQ(api::Meta(*list.items[1]).name(), "b");
  EXPECT_NE(canned->calls.back().find("fieldSelector=spec.nodeName%3Dn1"), std::string::npos)
      << canned->calls.back();

  canned->status = 404;
  canned->body =
      R"({"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"x\" not found","reason":"NotFound","code":404})";
  Task<absl::StatusOr<std::shared_ptr<const corev1::Pod>>> missing = client->Get<corev1::Pod>("d", "x");
  absl::StatusOr<std::shared_ptr<const corev1::Pod>> none = co_await std::move(missing);
  EXPECT_TRUE(api::IsNotFound(none.status())) << none.status();

  // Events cut in odd places, a bookmark, then 410 in the stream.
  std::string stream = StrCat(
      R"({"type":"ADDED","object":)", kPod, "}\n",
      R"({"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"8"}}})",
      "\n",
      R"({"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}})",
      "\n");
  canned->watch_pieces = {stream.substr(0, 10), stream.substr(10, 130), stream.substr(140)};
  WatchOptions watch;
  watch.resource_version = "4";
  CO_ASSIGN_OR_RETURN(std::unique_ptr<Watcher> watcher, client->Watch(GvrOf<corev1::Pod>(), "d", watch));
  CO_ASSIGN_OR_RETURN(std::optional<WatchEvent> event, watcher->Next());
  EXPECT_EQ(event->type, WatchEventType::kAdded);
  EXPECT_EQ(event->resource_version, "5");
  CO_ASSIGN_OR_RETURN(event, watcher->Next());
  EXPECT_EQ(event->type, WatchEventType::kBookmark);
  EXPECT_EQ(event->resource_version, "8");
  Task<absl::StatusOr<std::optional<WatchEvent>>> next = watcher->Next();
  absl::StatusOr<std::optional<WatchEvent>> expired = co_await std::move(next);
  EXPECT_TRUE(api::IsGone(expired.status())) << expired.status();

  canned->status = 200;
  canned->body = R"({"kind":"Status","apiVersion":"v1","status":"Success"})";
  CO_RETURN_IF_ERROR(client->Delete<corev1::Pod>("d", "a", DeleteOptions()));
  EXPECT_EQ(canned->calls.back(), "DELETE /api/v1/namespaces/d/pods/a?");
  watcher.reset();
  Task<void> close = server->Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

TEST(HttpApiClientTest, SpeaksToAServer) {
  RealEnv env{Paths()};
  CannedServer canned;
  net::HttpServer server(env.executor(), &env.clock(), &canned, {});
  absl::Status status = env.RunUntilDone(Exercise(&env, &canned, &server));
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::client
