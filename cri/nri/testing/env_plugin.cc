// A plugin that a runtime starts: gives each container ENV_PLUGIN="NN-NAME:CONFIG" and ends with its
// connection.
#include <cstdlib>

#include "base/env.h"
#include "base/strings.h"
#include "cri/nri/testing/test_plugin.h"
#include "net/socket.h"

namespace keelson::cri::nri {
namespace {

Task<absl::Status> Serve(Env* env, std::string index, std::string name, Fd socket) {
  Scope scope(env->executor());
  // What it registers as is not asked: it is known by its file.
  TestPlugin plugin(env, "99", "another");
  plugin.on_create = [&](const auto&) {
    pb::CreateContainerResponse response;
    pb::KeyValue* entry = response.mutable_adjust()->add_env();
    entry->set_key("ENV_PLUGIN");
    entry->set_value(StrCat(index, "-", name, ":", plugin.configuration.config()));
    return response;
  };
  net::SocketOwner owner(net::Socket::Make(env->executor(), std::move(socket)));
  plugin.Connect(&scope, net::MakeSocketStream(std::move(owner), ""));
  constexpr absl::Duration kLook = absl::Milliseconds(50);
  while (plugin.connected()) {
    Task<void> nap = env->clock().Sleep(kLook);
    co_await std::move(nap);
  }
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace
}  // namespace keelson::cri::nri

int main() {
  using namespace keelson;  // NOLINT
  const std::string fd = cri::nri::Variable("NRI_PLUGIN_SOCKET");
  if (fd.empty()) return 2;
  RealEnv env(Paths{});
  absl::Status served = env.RunUntilDone(cri::nri::Serve(
      &env, cri::nri::Variable("NRI_PLUGIN_IDX"), cri::nri::Variable("NRI_PLUGIN_NAME"), Fd(fd[0] - '0')));
  return served.ok() ? 0 : 1;
}
