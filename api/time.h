// meta.v1 Time, MicroTime and Duration: text forms and absl conversions.
//
// {0, 0} is the zero time (JSON null); it converts to absl::InfinitePast() and back. Times are UTC.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "api/meta/v1/meta.pb.h"

namespace keelson::api {

inline bool IsZero(const ::k8s::meta::v1::Time& t) { return t.seconds() == 0 && t.nanos() == 0; }
inline bool IsZero(const ::k8s::meta::v1::MicroTime& t) { return t.seconds() == 0 && t.nanos() == 0; }

absl::Time ToAbsl(const ::k8s::meta::v1::Time& t);
absl::Time ToAbsl(const ::k8s::meta::v1::MicroTime& t);
absl::Duration ToAbsl(const ::k8s::meta::v1::Duration& d);

// Whole seconds (what survives JSON upstream), rounded down.
::k8s::meta::v1::Time ToApiTime(absl::Time t);
// Whole microseconds.
::k8s::meta::v1::MicroTime ToApiMicroTime(absl::Time t);
::k8s::meta::v1::Duration ToApiDuration(absl::Duration d);

// "2026-11-22T20:06:49Z"; "" for the zero time.
std::string FormatTime(const ::k8s::meta::v1::Time& t);
// "2026-11-22T20:06:49.000000Z"; "" for the zero time.
std::string FormatMicroTime(const ::k8s::meta::v1::MicroTime& t);
void AppendRfc3339(int64_t seconds, std::string& out);  // without fraction, with Z
void AppendRfc3339Micro(int64_t seconds, int32_t nanos, std::string& out);

// RFC 3339 with optional fraction and offset. InvalidArgument says which part is wrong.
absl::StatusOr<absl::Time> ParseRfc3339(std::string_view text);
absl::StatusOr<::k8s::meta::v1::Time> ParseTime(std::string_view text);
absl::StatusOr<::k8s::meta::v1::MicroTime> ParseMicroTime(std::string_view text);

// Go's time.Duration text: "1h2m3.5s", "100ms", "0s".
std::string FormatGoDuration(int64_t nanoseconds);
absl::StatusOr<int64_t> ParseGoDuration(std::string_view text);

}  // namespace keelson::api
