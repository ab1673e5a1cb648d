// Quantity: exact fixed-point arithmetic on resource amounts (api.resource.Quantity).
//
// Holds billionths in 128 bits: everything upstream can hold (|value| < 2^63 with nine decimals). Finer input
// is rounded up (away from zero) to a billionth; larger input is capped at 2^63-1 as upstream does.
#pragma once

#include <absl/status/statusor.h>

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "api/api/resource/quantity.pb.h"

namespace keelson::api {

class Quantity {
 public:
  enum class Format : uint8_t { kDecimalSI, kBinarySI, kDecimalExponent };

  Quantity() = default;  // 0
  static Quantity FromValue(int64_t value, Format format = Format::kDecimalSI);
  static Quantity FromMilli(int64_t milli, Format format = Format::kDecimalSI);
  // "100m", "1.5Gi", "1e3". InvalidArgument with upstream's words.
  static absl::StatusOr<Quantity> Parse(std::string_view text);
  // Of a stored message: "" and unparsable text are 0.
  static Quantity Of(const ::k8s::api::resource::Quantity& q);

  // Canonical text: no fraction, the largest suffix that loses nothing, "1.5" as "1500m", "1024Mi" as "1Gi".
  std::string ToString() const;
  ::k8s::api::resource::Quantity ToProto() const;

  // Rounded away from zero, capped at the range of int64.
  int64_t Value() const;
  int64_t MilliValue() const;
  double ToDouble() const;
  bool IsZero() const { return nanos_ == 0; }
  int Sign() const { return nanos_ > 0 ? 1 : nanos_ < 0 ? -1 : 0; }
  Format format() const { return format_; }

  // A zero takes the other's format. Saturates.
  Quantity& Add(const Quantity& other);
  Quantity& Sub(const Quantity& other);
  Quantity& Neg();
  // Rounded up (away from zero) to thousandths, as the API server does with resource lists.
  Quantity& RoundUpToMilli();

  int Cmp(const Quantity& other) const { return nanos_ < other.nanos_ ? -1 : nanos_ > other.nanos_ ? 1 : 0; }
  bool operator==(const Quantity& other) const { return nanos_ == other.nanos_; }
  std::strong_ordering operator<=>(const Quantity& other) const { return Cmp(other) <=> 0; }

 private:
  __int128 nanos_ = 0;
  Format format_ = Format::kDecimalSI;
};

// The text to keep for a quantity that came in as `text`: upstream keeps the writer's own text where it needs
// no rounding, and writes the canonical form otherwise.
absl::StatusOr<std::string> NormalizeQuantityText(std::string_view text);

}  // namespace keelson::api
