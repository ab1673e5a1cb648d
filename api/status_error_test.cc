#include "api/status_error.h"

#include <gtest/gtest.h>

#include "api/codec.h"
#include "base/status.h"

namespace keelson::api {
namespace {

const GroupResource kPods{"", "pods"};
const GroupResource kDeployments{"apps", "deployments"};

std::string Json(const absl::Status& status) { return EncodeJson(ToApiStatus(status)); }

TEST(StatusError, NotFoundAsUpstreamWritesIt) {
  EXPECT_EQ(
      Json(NotFound(kPods, "web")),
      R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"web\" not found",)"
      R"("reason":"NotFound","details":{"name":"web","kind":"pods"},"code":404})");
  EXPECT_EQ(NotFound(kDeployments, "web").message(), "deployments.apps \"web\" not found");
  EXPECT_TRUE(absl::IsNotFound(NotFound(kPods, "web")));
}

TEST(StatusError, Messages) {
  EXPECT_EQ(AlreadyExists(kPods, "a").message(), "pods \"a\" already exists");
  EXPECT_EQ(Conflict(kPods, "a").message(),
            "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your "
            "changes to "
            "the latest version and try again");
  EXPECT_EQ(Forbidden(kPods, "a", "no").message(), "pods \"a\" is forbidden: no");
  EXPECT_EQ(Forbidden(kPods, "", "no").message(), "pods is forbidden: no");
  EXPECT_EQ(Forbidden({}, "", "no").message(), "forbidden: no");
  EXPECT_EQ(InternalError("x").message(), "Internal error occurred: x");
  EXPECT_EQ(MethodNotSupported(kPods, "patch").message(),
            "patch is not supported on resources of kind \"pods\"");
  EXPECT_EQ(Timeout("slow", 1).message(), "Timeout: slow");
  EXPECT_EQ(ServerTimeout(kPods, "list", 2).message(),
            "The list operation against pods could not be completed at this time, please try again.");
}

TEST(StatusError, InvalidListsItsCauses) {
  const StatusCause a = FieldCause("FieldValueRequired", "spec.containers[0].image", "Required value");
  const StatusCause b = FieldCause("FieldValueInvalid", "spec.x", "Invalid value: 1: no");
  EXPECT_EQ(Invalid("", "Pod", "web", {a}).message(),
            "Pod \"web\" is invalid: spec.containers[0].image: Required value");
  const absl::Status two = Invalid("apps", "Deployment", "web", {a, b, a});
  EXPECT_EQ(two.message(),
            "Deployment.apps \"web\" is invalid: [spec.containers[0].image: Required value, spec.x: Invalid "
            "value: 1: "
            "no]");
  EXPECT_EQ(ToApiStatus(two).details().causes_size(), 3);
  EXPECT_EQ(HttpCode(two), 422);
}

TEST(StatusError, PredicatesAndCodes) {
  EXPECT_TRUE(api::IsNotFound(NotFound(kPods, "a")));
  EXPECT_TRUE(api::IsNotFound(absl::NotFoundError("plain")));
  EXPECT_TRUE(IsConflict(Conflict(kPods, "a")));
  EXPECT_FALSE(IsConflict(AlreadyExists(kPods, "a")));
  EXPECT_TRUE(api::IsAlreadyExists(AlreadyExists(kPods, "a")));
  EXPECT_TRUE(IsGone(Expired("x")));
  EXPECT_TRUE(IsGone(Gone("x")));
  EXPECT_TRUE(IsInvalid(Invalid("", "Pod", "a", {})));
  EXPECT_TRUE(IsBadRequest(BadRequest("x")));
  EXPECT_FALSE(IsBadRequest(Invalid("", "Pod", "a", {})));
  EXPECT_EQ(HttpCode(absl::OkStatus()), 200);
  EXPECT_EQ(HttpCode(absl::InternalError("x")), 500);
  EXPECT_EQ(HttpCode(absl::UnavailableError("x")), 503);
  EXPECT_EQ(HttpCode(absl::CancelledError("x")), 500);
  EXPECT_EQ(HttpCode(TooManyRequests("x", 3)), 429);
  EXPECT_EQ(RetryAfterSeconds(TooManyRequests("x", 3)), 3);
  EXPECT_EQ(HttpCode(UnsupportedMediaType("a")), 415);
  EXPECT_TRUE(IsUnauthorized(FromHttpError(401, "")));
  EXPECT_TRUE(IsConflict(FromHttpError(409, "x")));
  EXPECT_EQ(HttpCode(FromHttpError(502, "bad gateway\n")), 502);
}

TEST(StatusError, ContextStaysOutOfWhatClientsRead) {
  const absl::Status inner = NotFound(kPods, "a");
  const absl::Status outer = Annotate(inner, "sync pod ns/a");
  EXPECT_TRUE(api::IsNotFound(outer));
  EXPECT_EQ(ToApiStatus(outer).message(), "pods \"a\" not found");
  EXPECT_TRUE(FromApiStatus(ToApiStatus(absl::OkStatus())).ok());
  EXPECT_EQ(ToApiStatus(FromApiStatus(ToApiStatus(inner))).SerializeAsString(),
            ToApiStatus(inner).SerializeAsString());
}

}  // namespace
}  // namespace keelson::api
