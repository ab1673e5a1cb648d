// The one unit that includes sd-bus. libsystemd is opened when the first slice is wanted: linked, it and the
// six libraries behind it would cost memory in every process of every node that has no use for them.
#include "cgroups/systemd_units.h"

#include <dlfcn.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <mutex>
#include <optional>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::cgroups {

namespace {

constexpr char kLibrary[] = "libsystemd.so.0";
constexpr char kBooted[] = "/run/systemd/system";  // as sd_booted(3) looks
constexpr char kBus[] = "/run/dbus/system_bus_socket";
constexpr char kService[] = "org.freedesktop.systemd1";
constexpr char kPath[] = "/org/freedesktop/systemd1";
constexpr char kManager[] = "org.freedesktop.systemd1.Manager";
constexpr char kUnitExists[] = "org.freedesktop.systemd1.UnitExists";
constexpr char kNoSuchUnit[] = "org.freedesktop.systemd1.NoSuchUnit";

// What is used of the library.
struct Library {
  decltype(&::sd_bus_open_system) open_system;
  decltype(&::sd_bus_flush_close_unref) close;
  decltype(&::sd_bus_set_method_call_timeout) set_timeout;
  decltype(&::sd_bus_match_signal) match_signal;
  decltype(&::sd_bus_call_method) call_method;
  decltype(&::sd_bus_call) call;
  decltype(&::sd_bus_process) process;
  decltype(&::sd_bus_wait) wait;
  decltype(&::sd_bus_error_free) error_free;
  decltype(&::sd_bus_message_new_method_call) new_call;
  decltype(&::sd_bus_message_append) append;
  decltype(&::sd_bus_message_append_array) append_array;
  decltype(&::sd_bus_message_open_container) open_container;
  decltype(&::sd_bus_message_close_container) close_container;
  decltype(&::sd_bus_message_read) read;
  decltype(&::sd_bus_message_unref) unref;

  absl::Status Open() {
    void* handle = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return absl::FailedPreconditionError(StrCat(kLibrary, ": ", ::dlerror()));
    const char* missing = nullptr;
    auto find = [&](const char* name, auto* function) {
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(::dlsym(handle, name));
      if (*function == nullptr) missing = name;
    };
    find("sd_bus_open_system", &open_system);
    find("sd_bus_flush_close_unref", &close);
    find("sd_bus_set_method_call_timeout", &set_timeout);
    find("sd_bus_match_signal", &match_signal);
    find("sd_bus_call_method", &call_method);
    find("sd_bus_call", &call);
    find("sd_bus_process", &process);
    find("sd_bus_wait", &wait);
    find("sd_bus_error_free", &error_free);
    find("sd_bus_message_new_method_call", &new_call);
    find("sd_bus_message_append", &append);
    find("sd_bus_message_append_array", &append_array);
    find("sd_bus_message_open_container", &open_container);
    find("sd_bus_message_close_container", &close_container);
    find("sd_bus_message_read", &read);
    find("sd_bus_message_unref", &unref);
    if (missing != nullptr) return absl::FailedPreconditionError(StrCat(kLibrary, ": has no ", missing));
    return absl::OkStatus();
  }
};

absl::Status BusError(int error, std::string_view what) {
  if (error == -ETIMEDOUT) return absl::DeadlineExceededError(StrCat(what, ": systemd did not answer"));
  return ErrnoStatus(-error, what);
}

// One connection, for one call and its job, if it has one: nothing is kept that a restart of the bus would
// break.
class Connection {
 public:
  Connection(const Library& library, Clock& clock) : library_(library), clock_(clock) {}
  ~Connection() {
    library_.error_free(&error_);
    for (sd_bus_message* message : messages_) library_.unref(message);
    library_.close(bus_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  enum class Awaits { kAnswer, kJob };
  absl::Status Open(Awaits what) {
    int result = library_.open_system(&bus_);
    if (result < 0) {
      return absl::UnavailableError(StrCat("open the system bus: ", ErrnoStatus(-result, "").message()));
    }
    result = library_.set_timeout(bus_, absl::ToInt64Microseconds(kSystemdTimeout));
    if (result >= 0 && what == Awaits::kAnswer) return absl::OkStatus();
    if (result >= 0) {
      result =
          library_.match_signal(bus_, nullptr, kService, kPath, kManager, "JobRemoved", &OnJobRemoved, this);
    }
    // systemd tells of jobs only those who have asked.
    if (result >= 0) {
      result = library_.call_method(bus_, kService, kPath, kManager, "Subscribe", &error_, nullptr, "");
    }
    return result < 0 ? Failed(result, "subscribe to systemd") : absl::OkStatus();
  }

  absl::Status StartTransientSlice(const std::string& name, const std::vector<UnitProperty>& properties) {
    sd_bus_message* call = NewCall("StartTransientUnit");
    int result = call == nullptr ? -ENOMEM : library_.append(call, "ss", name.c_str(), "replace");
    if (result >= 0) result = Append(call, properties);
    if (result >= 0) result = library_.append(call, "a(sa(sv))", 0u);
    return CallAndWait(call, result, StrCat("start ", name));
  }

  absl::Status SetProperties(const std::string& name, const std::vector<UnitProperty>& properties) {
    constexpr int kRuntimeOnly = 1;
    sd_bus_message* call = NewCall("SetUnitProperties");
    int result = call == nullptr ? -ENOMEM : library_.append(call, "sb", name.c_str(), kRuntimeOnly);
    if (result >= 0) result = Append(call, properties);
    if (result >= 0) result = library_.call(bus_, call, 0, &error_, nullptr);
    return result < 0 ? Failed(result, StrCat("set the properties of ", name)) : absl::OkStatus();
  }

  absl::Status StopUnit(const std::string& name) {
    sd_bus_message* call = NewCall("StopUnit");
    int result = call == nullptr ? -ENOMEM : library_.append(call, "ss", name.c_str(), "replace");
    return CallAndWait(call, result, StrCat("stop ", name));
  }

  // Of the last error.
  std::string ErrorName() const { return error_.name == nullptr ? "" : error_.name; }

 private:
  static int OnJobRemoved(sd_bus_message* message, void* self, sd_bus_error*) {
    auto* connection = static_cast<Connection*>(self);
    uint32_t id = 0;
    const char *path = nullptr, *unit = nullptr, *result = nullptr;
    if (connection->library_.read(message, "uoss", &id, &path, &unit, &result) < 0) return 0;
    if (connection->job_ == path) connection->job_result_ = result;
    return 0;
  }

  sd_bus_message* NewCall(const char* method) {
    sd_bus_message* call = nullptr;
    if (library_.new_call(bus_, &call, kService, kPath, kManager, method) < 0) return nullptr;
    messages_.push_back(call);
    return call;
  }

  int Append(sd_bus_message* call, const std::vector<UnitProperty>& properties) {
    int result = library_.open_container(call, 'a', "(sv)");
    for (const UnitProperty& property : properties) {
      if (result < 0) break;
      const char* name = property.name.c_str();
      if (const bool* flag = std::get_if<bool>(&property.value)) {
        result = library_.append(call, "(sv)", name, "b", static_cast<int>(*flag));
      } else if (const uint64_t* number = std::get_if<uint64_t>(&property.value)) {
        result = library_.append(call, "(sv)", name, "t", *number);
      } else if (const std::string* text = std::get_if<std::string>(&property.value)) {
        result = library_.append(call, "(sv)", name, "s", text->c_str());
      } else {
        result = AppendBytes(call, name, std::get<std::vector<uint8_t>>(property.value));
      }
    }
    return result < 0 ? result : library_.close_container(call);
  }

  int AppendBytes(sd_bus_message* call, const char* name, const std::vector<uint8_t>& bytes) {
    int result = library_.open_container(call, 'r', "sv");
    if (result >= 0) result = library_.append(call, "s", name);
    if (result >= 0) result = library_.open_container(call, 'v', "ay");
    if (result >= 0) result = library_.append_array(call, 'y', bytes.data(), bytes.size());
    if (result >= 0) result = library_.close_container(call);
    return result < 0 ? result : library_.close_container(call);
  }

  absl::Status CallAndWait(sd_bus_message* call, int built, const std::string& what) {
    sd_bus_message* reply = nullptr;
    int result = built < 0 ? built : library_.call(bus_, call, 0, &error_, &reply);
    if (reply != nullptr) messages_.push_back(reply);
    const char* job = nullptr;
    if (result >= 0) result = library_.read(reply, "o", &job);
    if (result < 0) return Failed(result, what);
    job_ = job;  // its signal waits to be processed
    const absl::Duration limit = clock_.Monotonic() + kSystemdTimeout;
    while (!job_result_.has_value()) {
      result = library_.process(bus_, nullptr);
      if (result < 0) return Failed(result, what);
      if (result > 0) continue;
      const absl::Duration left = limit - clock_.Monotonic();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(StrCat(what, ": the job is not done"));
      }
      result = library_.wait(bus_, static_cast<uint64_t>(absl::ToInt64Microseconds(left)));
      if (result < 0 && result != -EINTR) return Failed(result, what);
    }
    if (*job_result_ == "done" || *job_result_ == "skipped") return absl::OkStatus();
    return absl::InternalError(StrCat(what, ": the job ended as \"", *job_result_, "\""));
  }

  absl::Status Failed(int result, std::string_view what) const {
    if (error_.message == nullptr) return BusError(result, what);
    return BusError(result, StrCat(what, ": ", error_.message));
  }

  const Library& library_;
  Clock& clock_;
  sd_bus* bus_ = nullptr;
  sd_bus_error error_ = SD_BUS_ERROR_NULL;
  std::vector<sd_bus_message*> messages_;
  std::string job_;
  std::optional<std::string> job_result_;
};

class BusUnits : public SystemdUnits {
 public:
  BusUnits(Clock& clock, Library library, bool v2) : clock_(clock), library_(library), v2_(v2) {}

  absl::Status EnsureSlice(std::string name, Resources resources) override {
    std::vector<UnitProperty> limits = LimitProperties(resources, v2_);
    std::vector<UnitProperty> properties = limits;
    properties.push_back({"Description", StrCat("pods of the kubelet: ", name)});
    properties.push_back({"DefaultDependencies", false});
    for (const char* accounting : {"CPUAccounting", "MemoryAccounting", "TasksAccounting"}) {
      properties.push_back({accounting, true});
    }
    properties.push_back({v2_ ? "IOAccounting" : "BlockIOAccounting", true});
    {
      Connection connection(library_, clock_);
      RETURN_IF_ERROR(connection.Open(Connection::Awaits::kJob));
      absl::Status started = connection.StartTransientSlice(name, properties);
      if (connection.ErrorName() != kUnitExists) return started;
    }
    return Set(name, limits);
  }

  absl::Status SetLimits(std::string name, Resources resources) override {
    return Set(name, LimitProperties(resources, v2_));
  }

  absl::Status StopSlice(std::string name) override {
    Connection connection(library_, clock_);
    RETURN_IF_ERROR(connection.Open(Connection::Awaits::kJob));
    absl::Status stopped = connection.StopUnit(name);
    return connection.ErrorName() == kNoSuchUnit ? absl::OkStatus() : stopped;
  }

 private:
  absl::Status Set(const std::string& name, const std::vector<UnitProperty>& limits) {
    if (limits.empty()) return absl::OkStatus();
    Connection connection(library_, clock_);
    RETURN_IF_ERROR(connection.Open(Connection::Awaits::kAnswer));
    absl::Status set = connection.SetProperties(name, limits);
    if (connection.ErrorName() == kNoSuchUnit) return absl::NotFoundError(set.message());
    return set;
  }

  Clock& clock_;
  Library library_;
  bool v2_;
};

}  // namespace

bool SystemdMakesCgroups(Mode mode) {
  if (mode != Mode::kV2 || ::access(kBooted, F_OK) != 0 || ::access(kBus, F_OK) != 0) return false;
  void* library = ::dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return false;
  ::dlclose(library);  // who asks may have no other use for it
  return true;
}

absl::StatusOr<std::unique_ptr<SystemdUnits>> NewSystemdUnits(Clock& clock, bool v2) {
  if (::access(kBooted, F_OK) != 0) {
    return absl::FailedPreconditionError("cgroup driver systemd: this host was not booted with systemd");
  }
  Library library;
  absl::Status opened = library.Open();
  if (!opened.ok()) return Annotate(opened, "cgroup driver systemd");
  return std::make_unique<BusUnits>(clock, library, v2);
}

SystemdUnitsGetter SystemdUnitsOnDemand(Clock& clock, bool v2) {
  struct Made {
    std::mutex mutex;
    std::unique_ptr<SystemdUnits> units;
  };
  return [&clock, v2, made = std::make_shared<Made>()]() -> absl::StatusOr<SystemdUnits*> {
    std::lock_guard<std::mutex> lock(made->mutex);
    if (made->units == nullptr) {
      ASSIGN_OR_RETURN(made->units, NewSystemdUnits(clock, v2));
    }
    return made->units.get();
  };
}

}  // namespace keelson::cgroups
