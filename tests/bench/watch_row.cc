// Watchers at a steady rate of creates: from the moment the request is sent to the event in a watcher's
// hands.
#include "base/status.h"
#include "base/strings.h"
#include "tests/bench/api_rows.h"

namespace keelson::bench {
namespace {

constexpr size_t kWatchers = 100;
constexpr size_t kCreates = 1000;
constexpr absl::Duration kInterval = absl::Milliseconds(5);  // 200 a second
constexpr absl::Duration kEventsLimit = absl::Seconds(60);
constexpr char kPath[] = "/api/v1/namespaces/bench-watch/configmaps";
constexpr std::string_view kNameKey = "\"name\":\"w-";

struct Watching {
  Watching(Target to, net::HttpClient* with) : target(std::move(to)), client(with) {}
  Target target;
  net::HttpClient* client;
  std::vector<double> sent_ms;  // by number of the create
  std::vector<double> ms;
  size_t open_left = kWatchers, left = kWatchers, errors = 0;
  std::string first_error;
  AsyncEvent open, done;
  bool expired = false;
};

void Fail(Watching* watching, const std::string& text) {
  if (watching->errors++ == 0) watching->first_error = text;
}

double NowMs(Watching* watching) {
  return absl::ToDoubleMilliseconds(watching->target.env->clock().Monotonic());
}

// Takes whole lines off `buffer`; returns how many events there were.
size_t TakeEvents(Watching* watching, std::string& buffer) {
  double now = NowMs(watching);
  size_t begin = 0, events = 0;
  while (true) {
    size_t end = buffer.find('\n', begin);
    if (end == std::string::npos) break;
    size_t name = buffer.find(kNameKey, begin);
    if (name < end) {
      size_t number = std::strtoul(buffer.c_str() + name + kNameKey.size(), nullptr, 10);
      if (number < watching->sent_ms.size()) {
        watching->ms.push_back(now - watching->sent_ms[number]);
        ++events;
      }
    }
    begin = end + 1;
  }
  buffer.erase(0, begin);
  return events;
}

Task<absl::Status> ReadEvents(Watching* watching) {
  net::HttpClientRequest request = JsonRequest("GET", StrCat(kPath, "?watch=true&timeoutSeconds=60"));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<net::HttpResponseStream> stream,
                      watching->client->Open(watching->target.endpoint, std::move(request)));
  if (stream->status() != 200) co_return absl::InternalError(StrCat("watch: status ", stream->status()));
  if (--watching->open_left == 0) watching->open.Set();
  std::string buffer;
  size_t seen = 0;
  while (seen < kCreates) {
    CO_ASSIGN_OR_RETURN(std::string bytes, stream->Read(kEventsLimit));
    if (bytes.empty()) co_return absl::UnavailableError(StrCat("watch ended after ", seen, " events"));
    buffer += bytes;
    seen += TakeEvents(watching, buffer);
  }
  co_return absl::OkStatus();
}

Task<void> OneWatcher(Watching* watching) {
  Task<absl::Status> read = ReadEvents(watching);
  absl::Status status = co_await std::move(read);
  if (!status.ok()) Fail(watching, status.ToString());
  if (!status.ok()) watching->open.Set();
  if (--watching->left == 0) watching->done.Set();
}

Task<void> CreateOne(Watching* watching, net::HttpClient* client, size_t number) {
  net::HttpClientRequest request =
      JsonRequest("POST", kPath,
                  StrCat(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w-)", number,
                         R"("},"data":{"value":")", std::string(1024, 'w'), R"("}})"));
  Task<absl::StatusOr<net::HttpClientResponse>> call = Exchange(watching->target, client, std::move(request));
  absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
  if (!response.ok()) Fail(watching, response.status().ToString());
}

Task<void> Expire(Watching* watching) {
  Task<void> sleep = watching->target.env->clock().Sleep(kEventsLimit);
  co_await std::move(sleep);
  watching->expired = true;
  watching->open.Set();
  watching->done.Set();
}

}  // namespace

Task<absl::Status> WatchRow(Target target) {
  net::HttpClient client(target.env, net::HttpClientOptions());
  net::HttpClient watch_client(target.env, net::HttpClientOptions());
  std::string ns = R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bench-watch"}})";
  net::HttpClientRequest request = JsonRequest("POST", "/api/v1/namespaces", ns);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse made,
                      Exchange(target, &client, std::move(request)));
  Watching watching(target, &watch_client);
  watching.sent_ms.reserve(kCreates);
  watching.ms.reserve(kCreates * kWatchers);
  Scope scope(target.env->executor());
  scope.Spawn("limit", Expire(&watching));
  for (size_t i = 0; i < kWatchers; ++i) scope.Spawn("watcher", OneWatcher(&watching));
  Task<void> open = watching.open.Wait();
  co_await std::move(open);
  CpuWindow window(target.env, target.server_pid);
  absl::Duration next = target.env->clock().Monotonic();
  for (size_t i = 0; i < kCreates && watching.errors == 0; ++i) {
    watching.sent_ms.push_back(NowMs(&watching));
    scope.Spawn("create", CreateOne(&watching, &client, i));
    next += kInterval;
    Task<void> sleep = target.env->clock().Sleep(next - target.env->clock().Monotonic());
    co_await std::move(sleep);
  }
  Task<void> done = watching.done.Wait();
  co_await std::move(done);
  window.End();
  Task<void> close = scope.Close();
  co_await std::move(close);
  if (watching.expired) Fail(&watching, "not every event came within the limit");
  Row row("watch_100");
  row.Set("watchers", kWatchers)
      .Set("creates", kCreates)
      .Set("events", watching.ms.size())
      .SetLatencies(watching.ms);
  row.SetCpu(window, kCreates).Set("errors", watching.errors);
  if (watching.errors > 0) row.Set("first_error", watching.first_error);
  row.Print();
  co_return absl::OkStatus();
}

}  // namespace keelson::bench
