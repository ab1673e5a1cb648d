#include "kubelet/pod_cache.h"

#include <algorithm>

namespace keelson::kubelet {

absl::StatusOr<RuntimePodStatusPtr> PodCache::Get(const std::string& uid) const {
  auto it = entries_.find(uid);
  if (it != entries_.end()) return it->second.status;
  auto empty = std::make_shared<RuntimePodStatus>();
  empty->uid = uid;
  empty->mark = global_;
  return RuntimePodStatusPtr(std::move(empty));
}

bool PodCache::Known(const std::string& uid, uint64_t mark) const {
  if (global_ > mark) return true;
  auto it = entries_.find(uid);
  return it != entries_.end() && it->second.mark > mark;
}

Task<absl::StatusOr<RuntimePodStatusPtr>> PodCache::GetNewerThan(std::string uid, uint64_t mark) {
  while (!Known(uid, mark)) {
    Task<void> wait = changed_.Wait();
    co_await std::move(wait);
  }
  co_return Get(uid);
}

void PodCache::Set(const std::string& uid, absl::StatusOr<RuntimePodStatusPtr> status, uint64_t mark) {
  auto [it, fresh] = entries_.try_emplace(uid, Entry{absl::UnknownError("never asked"), 0});
  if (!fresh && it->second.mark > mark) return;
  it->second = Entry{std::move(status), mark};
  changed_.NotifyAll();
}

void PodCache::Delete(const std::string& uid, uint64_t mark) {
  auto it = entries_.find(uid);
  if (it != entries_.end() && it->second.mark <= mark) entries_.erase(it);
}

void PodCache::SetGlobal(uint64_t mark) {
  global_ = std::max(global_, mark);
  changed_.NotifyAll();
}

std::vector<std::string> PodCache::Uids() const {
  std::vector<std::string> out;
  for (const auto& [uid, entry] : entries_) out.push_back(uid);
  return out;
}

}  // namespace keelson::kubelet
