#include "kubelet/backoff.h"

#include <algorithm>
#include <string_view>

namespace keelson::kubelet {

absl::Duration Backoff::Remaining(const std::string& key, absl::Time event, absl::Time now) const {
  auto it = entries_.find(key);
  if (it == entries_.end() || Expired(it->second, event)) return absl::ZeroDuration();
  absl::Duration left = event + it->second.wait - now;
  return std::clamp(left, absl::ZeroDuration(), it->second.wait);
}

absl::Duration Backoff::RemainingSinceUpdate(const std::string& key, absl::Time now) const {
  auto it = entries_.find(key);
  return it == entries_.end() ? absl::ZeroDuration() : Remaining(key, it->second.last_update, now);
}

void Backoff::Next(const std::string& key, absl::Time event, absl::Time now) {
  auto [it, fresh] = entries_.try_emplace(key, Entry{initial_, now});
  if (fresh) return;
  Entry& entry = it->second;
  entry.wait = Expired(entry, event) ? initial_ : std::min(entry.wait * 2, max_);
  entry.last_update = now;
}

absl::Duration Backoff::Get(const std::string& key) const {
  auto it = entries_.find(key);
  return it == entries_.end() ? absl::ZeroDuration() : it->second.wait;
}

void Backoff::ForgetPrefix(const std::string& prefix) {
  absl::erase_if(entries_, [&](const auto& e) { return e.first.compare(0, prefix.size(), prefix) == 0; });
}

void Backoff::Collect(absl::Time now) {
  absl::erase_if(entries_, [&](const auto& e) { return now - e.second.last_update > 2 * max_; });
}

}  // namespace keelson::kubelet
