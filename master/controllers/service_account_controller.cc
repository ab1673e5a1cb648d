#include "master/controllers/service_account_controller.h"

#include "api/core/v1/config.pb.h"
#include "api/core/v1/misc.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/object.h"
#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;

namespace {
constexpr char kDefaultAccount[] = "default";
}

ServiceAccountController::ServiceAccountController(ControllerContext context)
    : context_(context),
      namespaces_(context.informers.For<corev1::Namespace>()),
      accounts_(context.informers.For<corev1::ServiceAccount>()),
      loop_(context.env, name(), *this) {
  namespaces_.AddHandler([this](const ObjectPtr&, const ObjectPtr& after) {
    if (after != nullptr) loop_.queue().Add(api::Meta(*after).name());
  });
  accounts_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    if (after == nullptr && api::Meta(*before).name() == kDefaultAccount) {
      loop_.queue().Add(api::Meta(*before).namespace_());
    }
  });
}

void ServiceAccountController::Start() { loop_.Start(1); }
Task<void> ServiceAccountController::Stop() { return loop_.Stop(); }

Task<absl::StatusOr<client::Requeue>> ServiceAccountController::Reconcile(std::string key) {
  auto ns = namespaces_.Get<corev1::Namespace>(key);
  if (ns == nullptr || ns->metadata().has_deletion_timestamp()) co_return client::Requeue();
  if (accounts_.GetByKey(StrCat(key, "/", kDefaultAccount)) != nullptr) co_return client::Requeue();
  corev1::ServiceAccount account;
  account.mutable_metadata()->set_namespace_(key);
  account.mutable_metadata()->set_name(kDefaultAccount);
  Task<absl::StatusOr<std::shared_ptr<const corev1::ServiceAccount>>> create =
      context_.client.Create<corev1::ServiceAccount>(std::move(account));
  absl::StatusOr<std::shared_ptr<const corev1::ServiceAccount>> created = co_await std::move(create);
  if (created.ok() || api::IsAlreadyExists(created.status())) co_return client::Requeue();
  co_return created.status();
}

}  // namespace keelson::master
