#include "api/type_table.h"

#include <cstdio>
#include <cstdlib>
#include <shared_mutex>

#include "api/codec.h"
#include "api/scheme_types.h"

namespace keelson::api {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Every map field of the API is in the table; a missing one means that hack/update-protos was not run.
const MapRow* MapRowOf(const FieldDescriptor* field) {
  for (const MapRow& row : MapRows()) {
    if (row.message == field->containing_type() && row.number == field->number()) return &row;
  }
  std::fprintf(stderr, "no map row for %s\n", field->full_name().c_str());
  std::abort();
}

class Tables {
 public:
  const TypeTable& Get(const Descriptor* descriptor) {
    {
      std::shared_lock lock(mutex_);
      auto it = tables_.find(descriptor);
      if (it != tables_.end()) return *it->second;
    }
    // Built under the writer's lock: a reader sees a table with all its sub-tables or none.
    std::unique_lock lock(mutex_);
    return *Build(descriptor);
  }

 private:
  const TypeTable* Build(const Descriptor* descriptor) {
    std::unique_ptr<TypeTable>& slot = tables_[descriptor];
    if (slot != nullptr) return slot.get();
    slot = std::make_unique<TypeTable>();
    TypeTable* table = slot.get();  // `slot` dies when the map grows
    table->descriptor = descriptor;
    table->reflection =
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor)->GetReflection();
    const auto& rules = descriptor->options().GetExtension(keelson::options::type);
    table->form = rules.form();
    if (rules.has_kind()) {
      table->has_type_meta = true;
      table->kind = rules.kind().kind();
      table->api_version = rules.kind().group().empty() ? rules.kind().version()
                                                        : rules.kind().group() + "/" + rules.kind().version();
      table->type_prefix = "{\"kind\":\"" + table->kind + "\",\"apiVersion\":\"" + table->api_version + "\"";
    }
    if (descriptor->field_count() > 0) table->form_field = descriptor->field(0);
    table->fields.reserve(static_cast<size_t>(descriptor->field_count()));
    for (int i = 0; i < descriptor->field_count(); ++i) {
      table->fields.push_back(Plan(descriptor->field(i)));
      table->fields.back().reflection = table->reflection;
    }
    for (const FieldPlan& plan : table->fields) {
      if (plan.rules->inline_()) {
        table->inlines.push_back(&plan);
      } else {
        table->by_name[plan.json_name] = &plan;
      }
    }
    return table;
  }

  FieldPlan Plan(const FieldDescriptor* field) {
    FieldPlan plan;
    plan.field = field;
    plan.rules = &field->options().GetExtension(keelson::options::field);
    plan.json_name = field->json_name();
    AppendJsonString(plan.json_name, plan.quoted_key);
    plan.quoted_key += ':';
    plan.is_map = field->is_map();
    plan.is_list = field->is_repeated() && !plan.is_map;
    plan.value = plan.is_map ? field->message_type()->field(1) : field;
    plan.cpp_type = plan.value->cpp_type();
    plan.is_bytes = plan.value->type() == FieldDescriptor::TYPE_BYTES;
    plan.is_message = plan.cpp_type == FieldDescriptor::CPPTYPE_MESSAGE;
    plan.always = plan.rules->always();
    plan.pointer = plan.rules->pointer();
    plan.omitzero = plan.rules->omitzero();
    for (const std::string& strategy : plan.rules->patch_strategy()) plan.patch_merge |= strategy == "merge";
    if (plan.is_map) plan.map = MapRowOf(field);
    if (plan.is_message) plan.sub = Build(plan.value->message_type());
    return plan;
  }

  std::shared_mutex mutex_;
  absl::flat_hash_map<const Descriptor*, std::unique_ptr<TypeTable>> tables_;
};

}  // namespace

const FieldPlan* TypeTable::Find(std::string_view json_name, std::vector<const FieldPlan*>* path) const {
  auto it = by_name.find(absl::string_view(json_name.data(), json_name.size()));
  if (it != by_name.end()) return it->second;
  for (const FieldPlan* plan : inlines) {
    path->push_back(plan);
    if (const FieldPlan* found = plan->sub->Find(json_name, path)) return found;
    path->pop_back();
  }
  return nullptr;
}

const TypeTable& TableOf(const Descriptor* descriptor) {
  static auto* tables = new Tables;
  return tables->Get(descriptor);
}

}  // namespace keelson::api
