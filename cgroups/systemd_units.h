// SystemdUnits: what is asked of systemd where it is the one that makes cgroups (cgroup driver systemd):
// slices, over the system bus. Scopes of containers are the OCI runtime's to ask for; what it does not say of
// their limits is told here.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/env.h"
#include "cgroups/manager.h"

namespace keelson::cgroups {

// For one call and for the job it begins.
inline constexpr absl::Duration kSystemdTimeout = absl::Seconds(10);

// Of a unit, as org.freedesktop.systemd1 takes them (systemd.resource-control(5)).
struct UnitProperty {
  std::string name;
  std::variant<bool, uint64_t, std::string, std::vector<uint8_t>>
      value;  // bytes: a set of numbers, bit by bit
  bool operator==(const UnitProperty&) const = default;
};
// The limits that systemd has properties for; `unified` comes last, as it does in Resources. Pure.
std::vector<UnitProperty> LimitProperties(const Resources& resources, bool v2);

// Methods are blocking, for a pool. Any thread.
class SystemdUnits {
 public:
  virtual ~SystemdUnits() = default;
  // "kubepods-podUID.slice" is there afterwards, and its parents, with what `resources` has a property for:
  // what systemd does not know it would take back at its next reload. DeadlineExceeded; Unavailable: nobody
  // answers on the bus.
  virtual absl::Status EnsureSlice(std::string name, Resources resources) = 0;
  // Of a slice or scope that is there, until it ends. Nothing to set is success. NotFound: there is none.
  virtual absl::Status SetLimits(std::string name, Resources resources) = 0;
  // Ends what is in it, too. Unknown is success.
  virtual absl::Status StopSlice(std::string name) = 0;
};

// Whether systemd makes the cgroups of this host, and so the cgroup driver that nobody chose should be its:
// it has booted the host, the unified hierarchy is the only one (`mode`), and its bus and library are there.
bool SystemdMakesCgroups(Mode mode);

// FailedPrecondition: this host was not booted with systemd, or lacks its library. `clock` outlives it. `v2`:
// the unified hierarchy is the one with the controllers.
absl::StatusOr<std::unique_ptr<SystemdUnits>> NewSystemdUnits(Clock& clock, bool v2);

// The same, made when first asked for, as its library takes memory; asked again after an error. Any thread.
// What it gives lives as long as a copy of this.
using SystemdUnitsGetter = std::function<absl::StatusOr<SystemdUnits*>()>;
SystemdUnitsGetter SystemdUnitsOnDemand(Clock& clock, bool v2);

}  // namespace keelson::cgroups
