#include "kubelet/runtime_classes.h"

#include "api/node/v1/node.pb.h"
#include "api/status_error.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::kubelet {

namespace nodev1 = ::k8s::node::v1;

Task<absl::StatusOr<std::string>> RuntimeClasses::HandlerOf(std::string class_name) {
  auto configured = configured_.find(class_name);
  if (configured != configured_.end()) co_return configured->second;
  const absl::Status unknown = absl::NotFoundError(StrCat("RuntimeClass \"", class_name, "\" not found"));
  if (client_ == nullptr) co_return unknown;
  Task<absl::StatusOr<std::shared_ptr<const nodev1::RuntimeClass>>> get =
      client_->Get<nodev1::RuntimeClass>("", class_name);
  absl::StatusOr<std::shared_ptr<const nodev1::RuntimeClass>> found = co_await std::move(get);
  if (found.ok()) {
    known_[class_name] = (*found)->handler();
    co_return (*found)->handler();
  }
  if (api::IsNotFound(found.status())) {
    known_.erase(class_name);
    co_return unknown;
  }
  auto before = known_.find(class_name);
  if (before != known_.end()) co_return before->second;
  co_return Annotate(found.status(), StrCat("RuntimeClass \"", class_name, "\""));
}

}  // namespace keelson::kubelet
