// Propagation macros for absl::Status / absl::StatusOr. The CO_ forms are for coroutines and take the
// two-statement shape g++ 12 needs (docs/common-errors.md, "co_await").
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string_view>
#include <utility>

#include "base/strings.h"

namespace keelson {

using absl::Status;
using absl::StatusOr;

// Prepends "context: " to the message, keeps code and payloads. OK stays OK.
Status Annotate(const Status& status, std::string_view context);

// Status for an errno value: "context: strerror", code mapped as absl::ErrnoToStatus does.
Status ErrnoStatus(int error_number, std::string_view context);

#define KEELSON_CONCAT_INNER_(a, b) a##b
#define KEELSON_CONCAT_(a, b) KEELSON_CONCAT_INNER_(a, b)

#define RETURN_IF_ERROR(expr)                          \
  do {                                                 \
    ::absl::Status keelson_status_ = (expr);           \
    if (!keelson_status_.ok()) return keelson_status_; \
  } while (false)

#define ASSIGN_OR_RETURN_IMPL_(result, lhs, expr) \
  auto result = (expr);                           \
  if (!result.ok()) return result.status();       \
  lhs = *std::move(result)
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL_(KEELSON_CONCAT_(keelson_result_, __LINE__), lhs, expr)

// `expr` is a Task<Status>.
#define CO_RETURN_IF_ERROR(expr)                                        \
  do {                                                                  \
    auto keelson_task_ = (expr);                                        \
    ::absl::Status keelson_status_ = co_await std::move(keelson_task_); \
    if (!keelson_status_.ok()) co_return keelson_status_;               \
  } while (false)

// `expr` is a plain Status, used in a coroutine.
#define CO_RETURN_IF_ERROR_SYNC(expr)                     \
  do {                                                    \
    ::absl::Status keelson_status_ = (expr);              \
    if (!keelson_status_.ok()) co_return keelson_status_; \
  } while (false)

#define CO_ASSIGN_OR_RETURN_IMPL_(task, result, lhs, expr) \
  auto task = (expr);                                      \
  auto result = co_await std::move(task);                  \
  if (!result.ok()) co_return result.status();             \
  lhs = *std::move(result)
// `expr` is a Task<StatusOr<T>>.
#define CO_ASSIGN_OR_RETURN(lhs, expr)                                \
  CO_ASSIGN_OR_RETURN_IMPL_(KEELSON_CONCAT_(keelson_task_, __LINE__), \
                            KEELSON_CONCAT_(keelson_result_, __LINE__), lhs, expr)

#define CO_ASSIGN_OR_RETURN_SYNC_IMPL_(result, lhs, expr) \
  auto result = (expr);                                   \
  if (!result.ok()) co_return result.status();            \
  lhs = *std::move(result)
// `expr` is a plain StatusOr<T>, used in a coroutine.
#define CO_ASSIGN_OR_RETURN_SYNC(lhs, expr) \
  CO_ASSIGN_OR_RETURN_SYNC_IMPL_(KEELSON_CONCAT_(keelson_result_, __LINE__), lhs, expr)

}  // namespace keelson
