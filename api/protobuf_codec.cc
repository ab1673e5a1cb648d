// The envelope of application/vnd.kubernetes.protobuf, and decoding by content type.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include <cstdio>

#include "api/codec.h"
#include "api/status_error.h"
#include "api/yaml.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

constexpr std::string_view kMagic{"k8s\0", 4};
constexpr char kAccepted[] = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
// Fields of runtime.Unknown and TypeMeta, as wire tags (length-delimited).
constexpr char kTagTypeMeta = '\x0a';
constexpr char kTagRaw = '\x12';
constexpr char kTagContentEncoding = '\x1a';
constexpr char kTagContentType = '\x22';
constexpr char kTagApiVersion = '\x0a';
constexpr char kTagKind = '\x12';

void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

void AppendBytes(char tag, std::string_view bytes, std::string& out) {
  out += tag;
  AppendVarint(bytes.size(), out);
  out.append(bytes);
}

// Protobuf complains on stderr about every string that is no UTF-8; a client must not fill our log that way.
// The parse fails all the same.
void SilenceParserOnce() {
  static const bool done = [] {
    google::protobuf::SetLogHandler(
        [](google::protobuf::LogLevel level, const char* file, int line, const std::string& message) {
          if (level == google::protobuf::LOGLEVEL_FATAL)
            std::fprintf(stderr, "%s:%d: %s\n", file, line, message.c_str());
        });
    return true;
  }();
  (void)done;
}

// `size_bytes` is what ByteSizeLong() has just said: the message keeps the sizes of its parts from that.
void AppendSerialized(const google::protobuf::Message& message, size_t size_bytes, std::string& out) {
  const size_t start = out.size();
  out.resize(start + size_bytes);
  google::protobuf::io::ArrayOutputStream stream(out.data() + start, static_cast<int>(size_bytes));
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeWithCachedSizes(&coded);
}

// An envelope up to where the object's bytes stand, and the rest after them.
std::string OpenEnvelope(std::string_view api_version, std::string_view kind, size_t raw_bytes) {
  std::string type;
  AppendBytes(kTagApiVersion, api_version, type);
  AppendBytes(kTagKind, kind, type);
  std::string out;
  out.reserve(kMagic.size() + type.size() + raw_bytes + 16);
  out.append(kMagic);
  AppendBytes(kTagTypeMeta, type, out);
  out.push_back(kTagRaw);
  AppendVarint(raw_bytes, out);
  return out;
}
void CloseEnvelope(std::string& out) {
  AppendBytes(kTagContentEncoding, "", out);
  AppendBytes(kTagContentType, "", out);
}

}  // namespace

bool IsProtobufEnvelope(std::string_view bytes) { return bytes.substr(0, kMagic.size()) == kMagic; }

std::string SerializeDeterministic(const google::protobuf::Message& message) {
  std::string out;
  AppendSerialized(message, message.ByteSizeLong(), out);
  return out;
}

bool SameBytes(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  const size_t size = a.ByteSizeLong();
  if (size != b.ByteSizeLong()) return false;
  std::string bytes_a, bytes_b;
  AppendSerialized(a, size, bytes_a);
  AppendSerialized(b, size, bytes_b);
  return bytes_a == bytes_b;
}

// Written by hand to spare a copy of the object; upstream always writes the two empty fields at the end.
std::string WrapProtobuf(std::string_view api_version, std::string_view kind, std::string_view raw) {
  std::string out = OpenEnvelope(api_version, kind, raw.size());
  out.append(raw);
  CloseEnvelope(out);
  return out;
}

std::string EncodeProtobuf(const google::protobuf::Message& object) {
  const TypeInfo& type = Scheme::Get().Of(object);
  const size_t size = object.ByteSizeLong();
  std::string out = OpenEnvelope(type.api_version, type.gvk.kind, size);
  AppendSerialized(object, size, out);
  CloseEnvelope(out);
  return out;
}

absl::StatusOr<::k8s::runtime::Unknown> UnwrapProtobuf(std::string_view bytes) {
  if (!IsProtobufEnvelope(bytes)) {
    return BadRequest(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
  }
  SilenceParserOnce();
  bytes.remove_prefix(kMagic.size());
  ::k8s::runtime::Unknown unknown;
  if (!unknown.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return BadRequest("protobuf envelope (runtime.Unknown) cannot be parsed");
  }
  if (!unknown.content_encoding().empty()) {
    return BadRequest(
        StrCat("protobuf envelope has unsupported contentEncoding \"", unknown.content_encoding(), "\""));
  }
  return unknown;
}

absl::StatusOr<Decoded> DecodeProtobuf(std::string_view bytes, const DecodeOptions& options) {
  if (bytes.size() > options.max_bytes) {
    return RequestEntityTooLarge(absl::StrCat("limit is ", options.max_bytes));
  }
  absl::StatusOr<::k8s::runtime::Unknown> unknown = UnwrapProtobuf(bytes);
  if (!unknown.ok()) return unknown.status();
  std::string api_version = unknown->type_meta().api_version();
  std::string kind = unknown->type_meta().kind();
  if (options.default_type != nullptr) {
    if (api_version.empty()) api_version = options.default_type->api_version;
    if (kind.empty()) kind = options.default_type->gvk.kind;
  }
  Decoded decoded;
  decoded.type = Scheme::Get().ByKind(api_version, kind);
  if (decoded.type == nullptr) {
    return BadRequest(StrCat("no kind \"", kind, "\" is registered for version \"", api_version, "\""));
  }
  decoded.object.reset(decoded.type->prototype->New());
  if (!decoded.object->ParseFromString(unknown->raw())) {
    return BadRequest(StrCat(kind, " in version \"", decoded.type->gvk.version, "\" cannot be handled as a ",
                             kind, ": malformed protobuf"));
  }
  // Upstream drops fields it does not know; keeping them would store what nobody can see.
  decoded.object->DiscardUnknownFields();
  return decoded;
}

absl::StatusOr<Decoded> DecodeObject(std::string_view body, std::string_view content_type,
                                     const DecodeOptions& options) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  if (type.empty()) {
    if (IsProtobufEnvelope(body)) return DecodeProtobuf(body, options);
    const size_t first = body.find_first_not_of(" \t\r\n");
    type = first != std::string_view::npos && body[first] == '{' ? kContentTypeJson : kContentTypeYaml;
  }
  if (type == kContentTypeJson) return DecodeJson(body, options);
  if (type == kContentTypeProtobuf) return DecodeProtobuf(body, options);
  if (type == kContentTypeYaml || type == "application/x-yaml" || type == "text/yaml") {
    absl::StatusOr<std::string> json = YamlDocumentToJson(body);
    if (!json.ok()) return BadRequest(Sv(json.status().message()));
    return DecodeJson(*json, options);
  }
  return UnsupportedMediaType(kAccepted);
}

}  // namespace keelson::api
