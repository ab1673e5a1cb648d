// What every API object offers whatever its kind: metadata access, copies, names for messages.
//
// An object is a protobuf message of a kind known to api/scheme.h. Shared objects (informer caches, watch
// events) are const; copy before changing.
#pragma once

#include <google/protobuf/message.h>

#include <memory>
#include <string>

#include "api/meta/v1/meta.pb.h"
#include "api/scheme.h"

namespace keelson::api {

using Message = google::protobuf::Message;
using ObjectPtr = std::shared_ptr<const Message>;

// The object's metadata. For a kind without ObjectMeta (lists, Status): the default instance / CHECK-failure.
const ::k8s::meta::v1::ObjectMeta& Meta(const Message& object);
::k8s::meta::v1::ObjectMeta& MutableMeta(Message& object);
// Whether the kind has a field `metadata` of type ObjectMeta.
bool HasMeta(const Message& object);

// The list's metadata (resourceVersion, continue). CHECK-fails for a kind without ListMeta.
const ::k8s::meta::v1::ListMeta& MetaOfList(const Message& list);
::k8s::meta::v1::ListMeta& MutableMetaOfList(Message& list);
// The field `items` of a list message. CHECK-fails when there is none.
const google::protobuf::FieldDescriptor* ItemsField(const Message& list);

// "namespace/name", or "name" for an object without namespace.
std::string NamespacedName(const Message& object);
// kind, apiVersion of the message; CHECK-fails when it is no kind.
inline const TypeInfo& TypeOf(const Message& object) { return Scheme::Get().Of(object); }

std::unique_ptr<Message> NewObject(const TypeInfo& type);
std::unique_ptr<Message> CloneMessage(const Message& object);
template <typename T>
std::shared_ptr<const T> Share(T object) {
  return std::make_shared<const T>(std::move(object));
}

// The object as a T, or nullptr when it is another kind.
template <typename T>
const T* As(const Message& object) {
  return object.GetDescriptor() == T::descriptor() ? static_cast<const T*>(&object) : nullptr;
}
template <typename T>
std::shared_ptr<const T> As(const ObjectPtr& object) {
  if (object == nullptr || object->GetDescriptor() != T::descriptor()) return nullptr;
  return std::static_pointer_cast<const T>(object);
}

// The owner reference with controller=true, or nullptr.
const ::k8s::meta::v1::OwnerReference* ControllerOf(const Message& object);

}  // namespace keelson::api
