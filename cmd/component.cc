#include "cmd/component.h"

#include <cstdio>

#include "base/log.h"
#include "base/strings.h"
#include "cmd/signals.h"

namespace keelson {

ComponentLife::ComponentLife(Env& env) : scope_(env.executor()) {
  scope_.Spawn("signals", WatchSignals(&env, &stop_));
}

Task<absl::Status> ComponentLife::RunUntilStopped(absl::Status started) {
  if (started.ok()) {
    Task<void> wait = stop_.Wait();
    co_await std::move(wait);
  }
  Task<void> close = scope_.Close();
  co_await std::move(close);
  while (!stops_.empty()) {
    Task<void> stop = stops_.back()();
    co_await std::move(stop);
    stops_.pop_back();
  }
  co_return started;
}

int ComponentExitStatus(const std::string& name, const absl::Status& status) {
  if (status.ok()) return 0;
  LogError(StrCat(name, " ended"), {{"error", status}});
  std::fprintf(stderr, "keelson %s: %s\n", name.c_str(), std::string(status.message()).c_str());
  return 1;
}

int RunComponent(const std::string& name, const Paths& paths,
                 absl::AnyInvocable<Task<absl::Status>(Env*)> component) {
  RealEnv env(paths);
  return ComponentExitStatus(name, env.RunUntilDone(component(&env)));
}

}  // namespace keelson
