#include "api/object.h"

#include <google/protobuf/descriptor.h>

#include <cstdio>
#include <cstdlib>

namespace keelson::api {
namespace {

using google::protobuf::FieldDescriptor;
using ::k8s::meta::v1::ListMeta;
using ::k8s::meta::v1::ObjectMeta;

[[noreturn]] void Die(const Message& message, const char* what) {
  std::fprintf(stderr, "message %s has no %s\n", message.GetDescriptor()->full_name().c_str(), what);
  std::abort();
}

// Field 1, `metadata`, in every kind upstream. Asked some thirty times for each request: no look-up by name.
const FieldDescriptor* MetadataField(const Message& message, const google::protobuf::Descriptor* type) {
  const google::protobuf::Descriptor* descriptor = message.GetDescriptor();
  const FieldDescriptor* field = descriptor->field_count() > 0 ? descriptor->field(0) : nullptr;
  const bool is_metadata = field != nullptr && field->message_type() == type && field->name() == "metadata";
  return is_metadata ? field : nullptr;
}

}  // namespace

bool HasMeta(const Message& object) { return MetadataField(object, ObjectMeta::descriptor()) != nullptr; }

const ObjectMeta& Meta(const Message& object) {
  const FieldDescriptor* field = MetadataField(object, ObjectMeta::descriptor());
  if (field == nullptr) return ObjectMeta::default_instance();
  return static_cast<const ObjectMeta&>(object.GetReflection()->GetMessage(object, field));
}

ObjectMeta& MutableMeta(Message& object) {
  const FieldDescriptor* field = MetadataField(object, ObjectMeta::descriptor());
  if (field == nullptr) Die(object, "ObjectMeta");
  return static_cast<ObjectMeta&>(*object.GetReflection()->MutableMessage(&object, field));
}

const ListMeta& MetaOfList(const Message& list) {
  const FieldDescriptor* field = MetadataField(list, ListMeta::descriptor());
  if (field == nullptr) Die(list, "ListMeta");
  return static_cast<const ListMeta&>(list.GetReflection()->GetMessage(list, field));
}

ListMeta& MutableMetaOfList(Message& list) {
  const FieldDescriptor* field = MetadataField(list, ListMeta::descriptor());
  if (field == nullptr) Die(list, "ListMeta");
  return static_cast<ListMeta&>(*list.GetReflection()->MutableMessage(&list, field));
}

const FieldDescriptor* ItemsField(const Message& list) {
  const FieldDescriptor* field = list.GetDescriptor()->FindFieldByName("items");
  if (field == nullptr || !field->is_repeated()) Die(list, "items");
  return field;
}

std::string NamespacedName(const Message& object) {
  const ObjectMeta& meta = Meta(object);
  return meta.namespace_().empty() ? meta.name() : meta.namespace_() + "/" + meta.name();
}

std::unique_ptr<Message> NewObject(const TypeInfo& type) {
  return std::unique_ptr<Message>(type.prototype->New());
}

std::unique_ptr<Message> CloneMessage(const Message& object) {
  std::unique_ptr<Message> copy(object.New());
  copy->CopyFrom(object);
  return copy;
}

const ::k8s::meta::v1::OwnerReference* ControllerOf(const Message& object) {
  for (const auto& owner : Meta(object).owner_references()) {
    if (owner.controller()) return &owner;
  }
  return nullptr;
}

}  // namespace keelson::api
