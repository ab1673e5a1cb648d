#include "client/reconciler.h"

#include "base/log.h"
#include "base/strings.h"

namespace keelson::client {

ReconcileLoop::ReconcileLoop(Env& env, std::string name, Reconciler& reconciler, WorkQueueOptions options)
    : name_(std::move(name)), reconciler_(reconciler), queue_(env, options), scope_(env.executor()) {}

ReconcileLoop::~ReconcileLoop() = default;

void ReconcileLoop::Start(int workers) {
  for (int i = 0; i < workers; ++i) scope_.Spawn(StrCat(name_, " worker"), Work());
}

Task<void> ReconcileLoop::Stop() {
  queue_.Shutdown();
  return scope_.Close();
}

Task<void> ReconcileLoop::Work() {
  while (true) {
    Task<std::optional<std::string>> next = queue_.Next();
    std::optional<std::string> key = co_await std::move(next);
    if (!key.has_value()) co_return;
    Task<absl::StatusOr<Requeue>> reconcile = reconciler_.Reconcile(*key);
    absl::StatusOr<Requeue> result = co_await std::move(reconcile);
    queue_.Done(*key);
    if (!result.ok()) {
      // A conflict means the cache was a moment behind: ordinary, not worth a line.
      LogLevel level = absl::IsAborted(result.status()) ? LogLevel::kDebug : LogLevel::kWarning;
      if (LogEnabled(level)) {
        Log(level, "reconcile failed, trying again",
            {{"controller", name_},
             {"key", *key},
             {"failures", queue_.failures(*key)},
             {"error", result.status()}});
      }
      queue_.AddRateLimited(*key);
      continue;
    }
    queue_.Forget(*key);
    if (result->after.has_value()) queue_.AddAfter(*key, *result->after);
  }
}

}  // namespace keelson::client
