// API errors: absl::Status that carries a meta.v1.Status, with upstream's messages and reasons.
//
// Constructors give an absl::Status whose payload is the exact Status to send; its message is the same text.
// Context added by Annotate() stays out of what the API client reads.
#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/meta/v1/status.pb.h"
#include "api/scheme.h"

namespace keelson::api {

using ApiStatus = ::k8s::meta::v1::Status;
using StatusCause = ::k8s::meta::v1::StatusCause;

inline constexpr char kOptimisticLockMessage[] =
    "the object has been modified; please apply your changes to the latest version and try again";

absl::Status NotFound(const GroupResource& resource, std::string_view name);
absl::Status AlreadyExists(const GroupResource& resource, std::string_view name);
absl::Status GenerateNameConflict(const GroupResource& resource, std::string_view name, int retry_after_s);
absl::Status Conflict(const GroupResource& resource, std::string_view name,
                      std::string_view why = kOptimisticLockMessage);
absl::Status ApplyConflict(std::vector<StatusCause> causes, std::string_view message);
// `kind` and `group` of the object ("Pod", ""). Causes: reason (FieldValueRequired, ...), field, message
// (body).
absl::Status Invalid(std::string_view group, std::string_view kind, std::string_view name,
                     std::vector<StatusCause> causes);
absl::Status Forbidden(const GroupResource& resource, std::string_view name, std::string_view why);
absl::Status Unauthorized(std::string_view message);
absl::Status BadRequest(std::string_view message);
absl::Status Gone(std::string_view message);
absl::Status Expired(std::string_view message);  // 410, resourceVersion or continue token too old
absl::Status MethodNotSupported(const GroupResource& resource, std::string_view action);
absl::Status NotAcceptable(std::string_view accepted_media_types);
absl::Status UnsupportedMediaType(std::string_view accepted_media_types);
absl::Status ServerTimeout(const GroupResource& resource, std::string_view operation, int retry_after_s);
absl::Status Timeout(std::string_view message, int retry_after_s);
absl::Status InternalError(std::string_view message);
absl::Status ServiceUnavailable(std::string_view message);
absl::Status TooManyRequests(std::string_view message, int retry_after_s);
absl::Status RequestEntityTooLarge(std::string_view message);
// 404 for a path no handler knows ("the server could not find the requested resource").
absl::Status UnknownPath();

// One cause of Invalid(). Bodies as upstream's field package writes them.
StatusCause FieldCause(std::string_view reason, std::string_view field, std::string_view message);

// What to send for `status`: its payload, or a Status made of its code and message.
ApiStatus ToApiStatus(const absl::Status& status);
// The reverse, for clients. OK when status.status() is "Success".
absl::Status FromApiStatus(ApiStatus status);
// For an HTTP answer that is no Status object: code and the first bytes of the body.
absl::Status FromHttpError(int code, std::string_view body);
// HTTP code of ToApiStatus(status); 200 for OK.
int HttpCode(const absl::Status& status);
// Reason text ("NotFound"), "" when it has none.
std::string ReasonOf(const absl::Status& status);
int RetryAfterSeconds(const absl::Status& status);

// True for API statuses of that reason, and for plain absl statuses of the matching code. Write
// api::IsNotFound(s): the bare name is ambiguous with absl's own.
bool IsNotFound(const absl::Status& status);
bool IsAlreadyExists(const absl::Status& status);
bool IsConflict(const absl::Status& status);
bool IsInvalid(const absl::Status& status);
bool IsGone(const absl::Status& status);  // Gone or Expired
bool IsForbidden(const absl::Status& status);
bool IsUnauthorized(const absl::Status& status);
bool IsBadRequest(const absl::Status& status);
bool IsTimeout(const absl::Status& status);  // Timeout or ServerTimeout
bool IsTooManyRequests(const absl::Status& status);
bool IsServiceUnavailable(const absl::Status& status);
bool IsInternalError(const absl::Status& status);
bool IsMethodNotSupported(const absl::Status& status);

}  // namespace keelson::api
