#include "api/status_error.h"

#include <absl/strings/str_join.h>
#include <google/protobuf/stubs/common.h>

#include <array>

#include "base/strings.h"

namespace keelson::api {
namespace {

constexpr char kPayloadUrl[] = "type.googleapis.com/k8s.meta.v1.Status";
constexpr size_t kMaxBodyInMessageBytes = 2048;

// One row per reason: the HTTP code, the absl code it becomes, the text for a status without message.
struct ReasonRow {
  const char* reason;
  int http;
  absl::StatusCode code;
};
constexpr std::array<ReasonRow, 18> kReasons = {{
    {"BadRequest", 400, absl::StatusCode::kInvalidArgument},
    {"Unauthorized", 401, absl::StatusCode::kUnauthenticated},
    {"Forbidden", 403, absl::StatusCode::kPermissionDenied},
    {"NotFound", 404, absl::StatusCode::kNotFound},
    {"MethodNotAllowed", 405, absl::StatusCode::kUnimplemented},
    {"NotAcceptable", 406, absl::StatusCode::kInvalidArgument},
    {"AlreadyExists", 409, absl::StatusCode::kAlreadyExists},
    {"Conflict", 409, absl::StatusCode::kAborted},
    {"Gone", 410, absl::StatusCode::kOutOfRange},
    {"Expired", 410, absl::StatusCode::kOutOfRange},
    {"RequestEntityTooLarge", 413, absl::StatusCode::kInvalidArgument},
    {"UnsupportedMediaType", 415, absl::StatusCode::kInvalidArgument},
    {"Invalid", 422, absl::StatusCode::kInvalidArgument},
    {"TooManyRequests", 429, absl::StatusCode::kResourceExhausted},
    {"InternalError", 500, absl::StatusCode::kInternal},
    {"ServerTimeout", 500, absl::StatusCode::kUnavailable},
    {"ServiceUnavailable", 503, absl::StatusCode::kUnavailable},
    {"Timeout", 504, absl::StatusCode::kDeadlineExceeded},
}};

const ReasonRow* RowOf(std::string_view reason) {
  for (const ReasonRow& row : kReasons) {
    if (reason == row.reason) return &row;
  }
  return nullptr;
}

absl::StatusCode CodeOfHttp(int http) {
  for (const ReasonRow& row : kReasons) {
    if (row.http == http) return row.code;
  }
  if (http >= 500) return absl::StatusCode::kInternal;
  return http >= 400 ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kUnknown;
}

// Messages quote what clients sent; a protobuf string must be UTF-8.
std::string ValidUtf8(std::string text) {
  if (google::protobuf::internal::IsStructurallyValidUTF8(text.data(), static_cast<int>(text.size())))
    return text;
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return text;
}

absl::Status Make(std::string_view reason, std::string message, ApiStatus status = {}) {
  const ReasonRow* row = RowOf(reason);
  status.set_status("Failure");
  status.set_reason(std::string(reason));
  status.set_message(ValidUtf8(std::move(message)));
  status.set_code(row == nullptr ? 500 : row->http);
  return FromApiStatus(std::move(status));
}

ApiStatus ForResource(const GroupResource& resource, std::string_view name) {
  ApiStatus status;
  if (!name.empty()) status.mutable_details()->set_name(std::string(name));
  if (!resource.group.empty()) status.mutable_details()->set_group(resource.group);
  status.mutable_details()->set_kind(resource.resource);
  return status;
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string FieldErrorText(const StatusCause& cause) {
  return cause.field().empty() ? cause.message() : absl::StrCat(cause.field(), ": ", cause.message());
}

bool HasReason(const absl::Status& status, std::string_view reason) { return ReasonOf(status) == reason; }

}  // namespace

absl::Status NotFound(const GroupResource& resource, std::string_view name) {
  return Make("NotFound", absl::StrCat(resource.ToString(), " ", Quoted(name), " not found"),
              ForResource(resource, name));
}

absl::Status AlreadyExists(const GroupResource& resource, std::string_view name) {
  return Make("AlreadyExists", absl::StrCat(resource.ToString(), " ", Quoted(name), " already exists"),
              ForResource(resource, name));
}

absl::Status GenerateNameConflict(const GroupResource& resource, std::string_view name, int retry_after_s) {
  ApiStatus status = ForResource(resource, name);
  status.mutable_details()->set_retry_after_seconds(retry_after_s);
  return Make(
      "AlreadyExists",
      absl::StrCat(resource.ToString(), " ", Quoted(name),
                   " already exists, the server was not able to generate a unique name for the object"),
      std::move(status));
}

absl::Status Conflict(const GroupResource& resource, std::string_view name, std::string_view why) {
  return Make("Conflict",
              StrCat("Operation cannot be fulfilled on ", resource.ToString(), " ", Quoted(name), ": ", why),
              ForResource(resource, name));
}

absl::Status ApplyConflict(std::vector<StatusCause> causes, std::string_view message) {
  ApiStatus status;
  for (StatusCause& cause : causes) *status.mutable_details()->add_causes() = std::move(cause);
  return Make("Conflict", std::string(message), std::move(status));
}

absl::Status Invalid(std::string_view group, std::string_view kind, std::string_view name,
                     std::vector<StatusCause> causes) {
  ApiStatus status;
  auto* details = status.mutable_details();
  details->set_group(std::string(group));
  details->set_kind(std::string(kind));
  details->set_name(std::string(name));
  std::vector<std::string> texts;  // upstream leaves repeated texts out of the message
  for (StatusCause& cause : causes) {
    std::string text = FieldErrorText(cause);
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(std::move(text));
    *details->add_causes() = std::move(cause);
  }
  std::string message =
      StrCat(group.empty() ? std::string(kind) : StrCat(kind, ".", group), " ", Quoted(name), " is invalid");
  if (texts.size() == 1) absl::StrAppend(&message, ": ", texts[0]);
  if (texts.size() > 1) absl::StrAppend(&message, ": [", absl::StrJoin(texts, ", "), "]");
  return Make("Invalid", std::move(message), std::move(status));
}

absl::Status Forbidden(const GroupResource& resource, std::string_view name, std::string_view why) {
  std::string message;
  if (resource.resource.empty() && resource.group.empty()) {
    message = StrCat("forbidden: ", why);
  } else if (name.empty()) {
    message = StrCat(resource.ToString(), " is forbidden: ", why);
  } else {
    message = StrCat(resource.ToString(), " ", Quoted(name), " is forbidden: ", why);
  }
  return Make("Forbidden", std::move(message), ForResource(resource, name));
}

absl::Status Unauthorized(std::string_view message) {
  return Make("Unauthorized", message.empty() ? "not authorized" : std::string(message));
}

absl::Status BadRequest(std::string_view message) { return Make("BadRequest", std::string(message)); }
absl::Status Gone(std::string_view message) { return Make("Gone", std::string(message)); }
absl::Status Expired(std::string_view message) { return Make("Expired", std::string(message)); }

absl::Status MethodNotSupported(const GroupResource& resource, std::string_view action) {
  return Make("MethodNotAllowed",
              StrCat(action, " is not supported on resources of kind ", Quoted(resource.ToString())),
              ForResource(resource, ""));
}

absl::Status NotAcceptable(std::string_view accepted_media_types) {
  return Make("NotAcceptable", StrCat("only the following media types are accepted: ", accepted_media_types));
}

absl::Status UnsupportedMediaType(std::string_view accepted_media_types) {
  return Make("UnsupportedMediaType",
              StrCat("the body of the request was in an unknown format - accepted media types include: ",
                     accepted_media_types));
}

absl::Status ServerTimeout(const GroupResource& resource, std::string_view operation, int retry_after_s) {
  ApiStatus status = ForResource(resource, operation);
  status.mutable_details()->set_retry_after_seconds(retry_after_s);
  return Make("ServerTimeout",
              StrCat("The ", operation, " operation against ", resource.ToString(),
                     " could not be completed at this time, please try again."),
              std::move(status));
}

absl::Status Timeout(std::string_view message, int retry_after_s) {
  ApiStatus status;
  status.mutable_details()->set_retry_after_seconds(retry_after_s);
  return Make("Timeout", StrCat("Timeout: ", message), std::move(status));
}

absl::Status InternalError(std::string_view message) {
  ApiStatus status;
  status.mutable_details()->add_causes()->set_message(std::string(message));
  return Make("InternalError", StrCat("Internal error occurred: ", message), std::move(status));
}

absl::Status ServiceUnavailable(std::string_view message) {
  return Make("ServiceUnavailable", std::string(message));
}

absl::Status TooManyRequests(std::string_view message, int retry_after_s) {
  ApiStatus status;
  status.mutable_details()->set_retry_after_seconds(retry_after_s);
  return Make("TooManyRequests", std::string(message), std::move(status));
}

absl::Status RequestEntityTooLarge(std::string_view message) {
  return Make("RequestEntityTooLarge", StrCat("Request entity too large: ", message));
}

absl::Status UnknownPath() { return Make("NotFound", "the server could not find the requested resource"); }

StatusCause FieldCause(std::string_view reason, std::string_view field, std::string_view message) {
  StatusCause cause;
  cause.set_reason(std::string(reason));
  cause.set_field(std::string(field));
  cause.set_message(std::string(message));
  return cause;
}

ApiStatus ToApiStatus(const absl::Status& status) {
  ApiStatus out;
  if (status.ok()) {
    out.set_status("Success");
    out.set_code(200);
    return out;
  }
  if (absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl)) {
    if (out.ParseFromString(std::string(*payload))) return out;
    out.Clear();
  }
  out.set_status("Failure");
  out.set_message(std::string(status.message()));
  for (const ReasonRow& row : kReasons) {
    if (row.code != status.code()) continue;
    out.set_reason(row.reason);
    out.set_code(row.http);
    break;
  }
  switch (status.code()) {  // the codes for which the first row of the table is not the one meant
    case absl::StatusCode::kUnavailable:
      out.set_reason("ServiceUnavailable");
      out.set_code(503);
      break;
    case absl::StatusCode::kOutOfRange:
      out.set_reason("Expired");
      break;
    default:
      break;
  }
  if (out.code() == 0 || out.code() == 500) {
    out.set_reason("InternalError");
    out.set_code(500);
    out.set_message(absl::StrCat("Internal error occurred: ", out.message()));
  }
  return out;
}

absl::Status FromApiStatus(ApiStatus status) {
  if (status.status() == "Success") return absl::OkStatus();
  const ReasonRow* row = RowOf(status.reason());
  const absl::StatusCode code = row != nullptr ? row->code : CodeOfHttp(status.code());
  if (status.code() == 0) status.set_code(row != nullptr ? row->http : 500);
  absl::Status out(code, status.message());
  out.SetPayload(kPayloadUrl, absl::Cord(status.SerializeAsString()));
  return out;
}

absl::Status FromHttpError(int code, std::string_view body) {
  ApiStatus status;
  status.set_status("Failure");
  status.set_code(code);
  for (const ReasonRow& row : kReasons) {
    if (row.http != code) continue;
    status.set_reason(row.reason);
    break;
  }
  if (code == 409) status.set_reason("Conflict");
  if (code == 410) status.set_reason("Expired");
  std::string_view text = body.substr(0, kMaxBodyInMessageBytes);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  status.set_message(text.empty() ? absl::StrCat("the server answered with HTTP status ", code)
                                  : StrCat("the server answered with HTTP status ", code, ": ", text));
  return FromApiStatus(std::move(status));
}

int HttpCode(const absl::Status& status) { return status.ok() ? 200 : ToApiStatus(status).code(); }

std::string ReasonOf(const absl::Status& status) { return status.ok() ? "" : ToApiStatus(status).reason(); }

int RetryAfterSeconds(const absl::Status& status) {
  return status.ok() ? 0 : ToApiStatus(status).details().retry_after_seconds();
}

bool IsNotFound(const absl::Status& status) { return HasReason(status, "NotFound"); }
bool IsAlreadyExists(const absl::Status& status) { return HasReason(status, "AlreadyExists"); }
bool IsConflict(const absl::Status& status) { return HasReason(status, "Conflict"); }
bool IsInvalid(const absl::Status& status) { return HasReason(status, "Invalid"); }
bool IsGone(const absl::Status& status) { return HasReason(status, "Gone") || HasReason(status, "Expired"); }
bool IsForbidden(const absl::Status& status) { return HasReason(status, "Forbidden"); }
bool IsUnauthorized(const absl::Status& status) { return HasReason(status, "Unauthorized"); }
bool IsBadRequest(const absl::Status& status) { return HasReason(status, "BadRequest"); }
bool IsTimeout(const absl::Status& status) {
  return HasReason(status, "Timeout") || HasReason(status, "ServerTimeout");
}
bool IsTooManyRequests(const absl::Status& status) { return HasReason(status, "TooManyRequests"); }
bool IsServiceUnavailable(const absl::Status& status) { return HasReason(status, "ServiceUnavailable"); }
bool IsInternalError(const absl::Status& status) { return HasReason(status, "InternalError"); }
bool IsMethodNotSupported(const absl::Status& status) { return HasReason(status, "MethodNotAllowed"); }

}  // namespace keelson::api
