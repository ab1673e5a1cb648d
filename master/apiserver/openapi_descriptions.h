// Short texts of the schemas, for `kubectl explain`. Our own words; what has none is described by its name.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>

namespace keelson::master {

inline constexpr char kApiVersionDescription[] = "Group and version of this object's schema, such as v1.";
inline constexpr char kKindDescription[] = "Name of the REST resource's kind this object is of.";

std::string DescribeType(const google::protobuf::Descriptor& type);
std::string DescribeField(const google::protobuf::Descriptor& type,
                          const google::protobuf::FieldDescriptor& field);
std::string DescribeParameter(const std::string& name);

}  // namespace keelson::master
