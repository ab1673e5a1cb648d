#include "cmd/signals.h"

#include <signal.h>

#include <boost/asio/signal_set.hpp>

#include "base/log.h"

namespace keelson {

Task<void> WatchSignals(Env* env, AsyncEvent* stop) {
  boost::asio::signal_set signals(env->executor(), SIGTERM, SIGINT);
  auto wait = signals.async_wait(boost::asio::use_awaitable);
  int signal = co_await std::move(wait);
  LogInfo("stopping", {{"signal", signal}});
  stop->Set();
}

}  // namespace keelson
