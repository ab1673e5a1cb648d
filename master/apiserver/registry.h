// Registry: one row per resource. Discovery, OpenAPI, URL routing, storage, strategies, Table output and
// field selectors are all read off these rows. Built once, immutable, any thread.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/object.h"
#include "api/scheme.h"

namespace keelson::master {

// An object of a row's printer or selector, which is of the row's type.
template <class T>
const T& To(const api::Message& object) {
  return static_cast<const T&>(object);
}

// One column of `kubectl get`. priority 0: always shown; 1: with -o wide.
struct TableColumn {
  std::string name;
  std::string type;    // "string", "integer", "date"
  std::string format;  // "name" for the first column
  std::string description;
  int priority = 0;
};

// Cells of one row in the order of the columns.
class TableCells {
 public:
  void Text(std::string_view value);
  void Number(int64_t value);
  const std::vector<std::string>& json() const { return json_; }

 private:
  std::vector<std::string> json_;
};

// What a printer may use besides the object.
struct PrintContext {
  absl::Time now;
};

struct Subresource {
  std::string name;            // "status"
  api::GroupVersionKind kind;  // of request and response
  std::vector<std::string> verbs;
  bool connect = false;  // answered by an upgraded connection; `kind` is that of its query
};

// A field a field selector may name, besides metadata.name and metadata.namespace.
struct SelectableField {
  std::string path;
  std::string (*get)(const api::Message& object);
};

struct ResourceInfo {
  const api::TypeInfo* type = nullptr;
  std::vector<std::string> verbs;
  std::vector<Subresource> subresources;
  std::string
      storage_prefix;  // "/registry/pods/"; "" for resources that only answer creates (reviews, bindings)
  // The row whose stored objects this one shows; itself but for events.k8s.io.
  const ResourceInfo* storage = nullptr;
  // Between this row's kind and the stored kind; null when they are the same.
  std::unique_ptr<api::Message> (*to_storage)(const api::Message& object) = nullptr;
  std::unique_ptr<api::Message> (*from_storage)(const api::Message& stored) = nullptr;

  // Strategy, as upstream's registry strategies. Defaults have been set before. Null: nothing beyond the
  // generic.
  void (*prepare_create)(api::Message& object) = nullptr;
  // A status sent with a create is kept: a kubelet registers its Node with the status it has measured
  // (upstream too).
  bool create_keeps_status = false;
  void (*prepare_update)(api::Message& object, const api::Message& old) = nullptr;
  void (*prepare_status_update)(api::Message& object, const api::Message& old) = nullptr;
  bool tracks_generation = false;       // metadata.generation counts changes of spec
  bool unconditional_update = true;     // PUT without resourceVersion is allowed
  bool returns_deleted_object = false;  // DELETE answers with the object, not with a Status
  bool orphans_by_default = false;      // propagationPolicy unset means Orphan
  bool stored() const { return !storage_prefix.empty(); }
  bool has_status() const { return FindSubresource("status") != nullptr; }

  std::vector<SelectableField> selectable;
  std::vector<TableColumn> columns;  // empty: Name and Age
  void (*print)(const api::Message& object, const PrintContext& context, TableCells& cells) = nullptr;

  bool HasVerb(std::string_view verb) const;
  const Subresource* FindSubresource(std::string_view name) const;
  std::string StorageKey(std::string_view ns, std::string_view name) const;
  // Prefix of the keys of one namespace ("": all).
  std::string NamespacePrefix(std::string_view ns) const;
};

class Registry {
 public:
  static const Registry& Get();
  const ResourceInfo* Find(const api::GroupVersionResource& gvr) const;
  // First row of that group and resource, whatever the version.
  const ResourceInfo* Find(std::string_view group, std::string_view resource) const;
  // In the order discovery shows them.
  const std::vector<std::unique_ptr<ResourceInfo>>& all() const { return rows_; }
  // Group and version pairs in order of first appearance; the core group first.
  const std::vector<api::GroupVersion>& group_versions() const { return group_versions_; }

 private:
  Registry();
  ResourceInfo& Add(const api::Message& prototype, std::string storage_prefix,
                    std::vector<std::string> verbs);
  ResourceInfo& AddType(const api::TypeInfo& type, std::string storage_prefix,
                        std::vector<std::string> verbs);
  std::vector<std::unique_ptr<ResourceInfo>> rows_;
  std::vector<api::GroupVersion> group_versions_;
};

// ---- strategies, one file per family (strategy_*.cc) ----
void PreparePodCreate(api::Message& object);
void PreparePodUpdate(api::Message& object, const api::Message& old);
void PreparePodStatusUpdate(api::Message& object, const api::Message& old);
void PrepareNamespaceCreate(api::Message& object);
void PrepareNamespaceUpdate(api::Message& object, const api::Message& old);
void PrepareSecretWrite(api::Message& object);
std::unique_ptr<api::Message> EventToCore(const api::Message& event);
std::unique_ptr<api::Message> EventFromCore(const api::Message& event);

// ---- columns and printers (printers.cc) ----
void AddPrinter(ResourceInfo& row);

// Replaces top-level field `name` of `object` by old's value (cleared when old has none). No such field:
// nothing.
void CopyTopField(api::Message& object, const api::Message& old, const std::string& name);
void ClearTopField(api::Message& object, const std::string& name);
// Equality of one top-level field, whatever the order of maps.
bool SameTopField(const api::Message& a, const api::Message& b, const std::string& name);

}  // namespace keelson::master
