#include "cri/cni/cni.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <dirent.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <set>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "base/version_file.h"
#include "cri/cni/config.h"
#include "cri/cni/record.h"

namespace keelson::cri {
namespace {

constexpr absl::Duration kDelTimeout = absl::Seconds(60);
constexpr absl::Duration kGcTimeout = absl::Seconds(60);
constexpr size_t kMaxErrorBytes = 500;
constexpr size_t kMaxConfigFiles = 1000;
constexpr size_t kMaxRecords = 100000;
// More Go programs at once than this only take each other's time.
constexpr size_t kMaxRunningPlugins = 32;
// Most plugins are Go programs that live for milliseconds: one processor and no garbage collection below a
// limit make ADD of ptp with host-local a fifth shorter. Whoever sets them for the server sets them for
// plugins.
constexpr std::string_view kGoSettings[] = {"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=256MiB"};
// How long plugins that a killed server left running may take to end by themselves.
constexpr absl::Duration kOrphanPatience = absl::Seconds(10);
constexpr absl::Duration kOrphanLook = absl::Milliseconds(20);
constexpr size_t kMaxEnvironBytes = 1 << 20;
constexpr char kGeneratedConfig[] = "10-keelson.conflist";
constexpr char kRecordSuffix[] = ".json";

struct DirClose {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// Names of the entries of a folder, without hidden ones, sorted. NotFound.
absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path, size_t max_entries) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, FolderNames(path, max_entries));
  std::erase_if(names, [](const std::string& name) { return name[0] == '.'; });
  return names;
}

bool IsConfigName(const std::string& name) {
  return absl::EndsWith(name, ".conflist") || absl::EndsWith(name, ".conf") || absl::EndsWith(name, ".json");
}

bool IsNamespace(const std::string& path) {
  struct statfs fs;
  return !path.empty() && ::statfs(path.c_str(), &fs) == 0 &&
         (fs.f_type == NSFS_MAGIC || fs.f_type == PROC_SUPER_MAGIC);
}

// Processes that some runtime started as plugins for this container, found by their environment.
std::vector<int> FindPlugins(const std::string& proc_root, const std::string& container_id) {
  std::vector<int> out;
  std::unique_ptr<DIR, DirClose> dir(::opendir(proc_root.c_str()));
  std::string wanted = StrCat("CNI_CONTAINERID=", container_id);
  wanted.push_back('\0');
  while (dirent* entry = dir == nullptr ? nullptr : ::readdir(dir.get())) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid) || pid == ::getpid()) continue;
    absl::StatusOr<std::string> environment =
        ReadFile(StrCat(proc_root, "/", pid, "/environ"), kMaxEnvironBytes);
    if (environment.ok() && absl::StrContains(*environment, wanted)) out.push_back(pid);
  }
  return out;
}

std::string Tail(std::string_view text) {
  text = Sv(absl::StripAsciiWhitespace(Av(text)));
  if (text.size() > kMaxErrorBytes) text = text.substr(text.size() - kMaxErrorBytes);
  return std::string(text);
}

// The words of a plugin that failed.
absl::Status PluginFailure(const std::string& type, const SubprocessResult& result) {
  if (result.term_signal != 0)
    return absl::InternalError(StrCat("plugin ", type, ": killed by signal ", result.term_signal));
  CniPluginError error = ParseCniError(result.stdout_data);
  if (error.code == 0 && error.message.empty()) {
    std::string words = Tail(result.stderr_data.empty() ? result.stdout_data : result.stderr_data);
    return absl::InternalError(
        StrCat("plugin ", type, ": exit code ", result.exit_code, words.empty() ? "" : ": ", words));
  }
  std::string message = StrCat("plugin ", type, ": ", Tail(error.message));
  if (!error.details.empty()) StrAppend(&message, ": ", Tail(error.details));
  StrAppend(&message, " (code ", error.code, ")");
  if (error.code == kCniUnknownContainer) return absl::NotFoundError(message);
  if (error.code == kCniTryAgainLater) return absl::UnavailableError(message);
  if (error.code == kCniInvalidEnvironment && absl::StrContains(error.message, "CNI_COMMAND"))
    return absl::UnimplementedError(message);
  return absl::InternalError(message);
}

// One call of one plugin.
struct Call {
  std::string command;  // "ADD", ...
  CniAttachment attachment;
  std::string type, input;
  absl::Duration timeout;
};

std::string PodName(const CniAttachment& a) { return StrCat(a.pod_namespace, "/", a.pod_name); }

class ExecCni : public Cni {
 public:
  ExecCni(Env& env, CniOptions options) : env_(env), options_(std::move(options)) {}

  absl::Status Ready() const override {
    ASSIGN_OR_RETURN(std::shared_ptr<const CniNetwork> network, Current());
    return CheckPlugins(*network);
  }

  Task<absl::Status> AskStatus() override;

  bool HasCapability(std::string_view capability) const override {
    absl::StatusOr<std::shared_ptr<const CniNetwork>> network = Current();
    if (!network.ok()) return false;
    return std::any_of((*network)->plugins.begin(), (*network)->plugins.end(),
                       [&](const CniPlugin& p) { return p.capabilities.contains(std::string(capability)); });
  }

  Task<absl::StatusOr<CniResult>> Add(CniAttachment attachment) override;
  Task<absl::Status> Del(CniAttachment attachment) override;
  Task<absl::Status> Check(CniAttachment attachment) override;
  Task<absl::Status> GarbageCollect(std::vector<std::string> valid_container_ids) override;
  absl::Status SetPodCidr(const std::string& cidr) override;

 private:
  // Held during one operation on one attachment.
  struct KeyLock {
    KeyLock(std::shared_ptr<AsyncMutex> m, AsyncMutex::Guard g) : mutex(std::move(m)), guard(std::move(g)) {}
    std::shared_ptr<AsyncMutex> mutex;
    AsyncMutex::Guard guard;
  };
  // Counts an Add while it runs, so that GC commands wait for it.
  struct AddGuard {
    AddGuard(ExecCni* c, std::string k) : cni(c), key(std::move(k)) { cni->adding_.insert(key); }
    ~AddGuard() {
      cni->adding_.erase(cni->adding_.find(key));
      cni->adds_changed_.NotifyAll();
    }
    AddGuard(const AddGuard&) = delete;
    AddGuard& operator=(const AddGuard&) = delete;
    ExecCni* cni;
    std::string key;
  };
  struct GcGuard {
    explicit GcGuard(ExecCni* c) : cni(c) { cni->gc_command_runs_ = true; }
    ~GcGuard() {
      cni->gc_command_runs_ = false;
      cni->adds_changed_.NotifyAll();
    }
    GcGuard(const GcGuard&) = delete;
    GcGuard& operator=(const GcGuard&) = delete;
    ExecCni* cni;
  };
  struct Permit {
    explicit Permit(Semaphore* s) : semaphore(s) {}
    ~Permit() { semaphore->Release(); }
    Permit(const Permit&) = delete;
    Permit& operator=(const Permit&) = delete;
    Semaphore* semaphore;
  };

  absl::StatusOr<std::shared_ptr<const CniNetwork>> Current() const;
  absl::StatusOr<std::string> FindPlugin(const std::string& type) const;
  absl::Status CheckPlugins(const CniNetwork& network) const;
  Task<KeyLock> LockKey(std::string key);

  std::string RecordPath(const CniAttachment& a) const {
    return StrCat(options_.cache_dir, "/", CniRecordName(a.container_id, a.interface));
  }
  Task<absl::Status> WriteRecord(CniRecord record);
  Task<absl::StatusOr<CniRecord>> ReadRecord(std::string path);
  Task<absl::Status> DropRecord(std::string path);

  std::vector<std::string> PluginEnv(const Call& call) const;
  Task<absl::StatusOr<std::string>> Run(Call call);
  // *result: of the last plugin that succeeded, also on failure.
  Task<absl::Status> RunAdd(CniAttachment attachment, std::shared_ptr<const CniNetwork> network,
                            std::shared_ptr<std::string> result);
  Task<absl::Status> RunDel(CniAttachment attachment, std::shared_ptr<const CniNetwork> network,
                            std::string result);
  // A server that was killed in its ADD leaves the plugin running, and a DEL beside it would come too early.
  Task<void> OutlivePlugins(std::string container_id);
  // With the lock held.
  Task<absl::Status> DelLocked(CniAttachment attachment);
  Task<absl::Status> RunGcCommand();
  Task<absl::Status> RunStatusCommand(std::shared_ptr<const CniNetwork> network);
  Task<absl::StatusOr<std::vector<CniRecord>>> ListRecords();

  Env& env_;
  CniOptions options_;
  Semaphore plugins_{kMaxRunningPlugins};
  std::map<std::string, std::weak_ptr<AsyncMutex>> locks_;

  // The configuration as last read: file name, its text, what it means.
  mutable std::string config_file_, config_text_;
  mutable absl::StatusOr<std::shared_ptr<const CniNetwork>> config_ = absl::UnknownError("not read");

  // The last answer to STATUS, of this configuration.
  AsyncMutex one_status_;
  bool status_runs_ = false;
  std::shared_ptr<const CniNetwork> status_network_;
  absl::Duration status_at_;
  absl::Status status_;

  // GC against Add.
  AsyncMutex one_gc_;
  std::multiset<std::string> adding_;
  bool gc_runs_ = false, gc_command_runs_ = false;
  std::set<std::string> added_during_gc_;
  WaitList adds_changed_;
};

// Listing a folder and reading one small file costs less than to be wrong about when it changed.
absl::StatusOr<std::shared_ptr<const CniNetwork>> ExecCni::Current() const {
  absl::StatusOr<std::vector<std::string>> names = ListFolder(options_.conf_dir, kMaxConfigFiles);
  if (!names.ok() && !absl::IsNotFound(names.status())) return names.status();
  auto first =
      names.ok() ? std::find_if(names->begin(), names->end(), IsConfigName) : decltype(names->begin())();
  if (!names.ok() || first == names->end()) {
    return absl::FailedPreconditionError(StrCat("no network configuration in ", options_.conf_dir,
                                                ": put a .conflist there (CNI 0.3.0 to 1.1.0)"));
  }
  std::string path = StrCat(options_.conf_dir, "/", *first);
  absl::StatusOr<std::string> text = ReadFile(path, kMaxCniConfigBytes);
  if (!text.ok()) {
    return absl::FailedPreconditionError(StrCat("network configuration: ", Sv(text.status().message())));
  }
  if (*first == config_file_ && *text == config_text_) return config_;
  absl::StatusOr<CniNetwork> network = ParseCniNetwork(*text);
  config_file_ = *first;
  config_text_ = *std::move(text);
  if (network.ok()) {
    config_ = std::make_shared<const CniNetwork>(*std::move(network));
  } else {
    config_ = absl::FailedPreconditionError(
        StrCat("network configuration ", path, ": ", Sv(network.status().message())));
  }
  return config_;
}

absl::StatusOr<std::string> ExecCni::FindPlugin(const std::string& type) const {
  for (const std::string& dir : options_.bin_dirs) {
    std::string path = StrCat(dir, "/", type);
    struct stat st;
    if (::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(path.c_str(), X_OK) == 0)
      return path;
  }
  return absl::FailedPreconditionError(StrCat("network plugin \"", type, "\" is in none of ",
                                              absl::StrJoin(options_.bin_dirs, ", "),
                                              " (Debian: containernetworking-plugins)"));
}

absl::Status ExecCni::CheckPlugins(const CniNetwork& network) const {
  for (const CniPlugin& plugin : network.plugins) RETURN_IF_ERROR(FindPlugin(plugin.type).status());
  return absl::OkStatus();
}

Task<ExecCni::KeyLock> ExecCni::LockKey(std::string key) {
  std::erase_if(locks_, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<AsyncMutex> mutex = locks_[key].lock();
  if (mutex == nullptr) {
    mutex = std::make_shared<AsyncMutex>();
    locks_[key] = mutex;
  }
  Task<AsyncMutex::Guard> lock = mutex->Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  KeyLock held(std::move(mutex), std::move(guard));
  co_return held;
}

Task<absl::Status> ExecCni::WriteRecord(CniRecord record) {
  std::string dir = options_.cache_dir, path = RecordPath(record.attachment), text = EncodeCniRecord(record);
  // Not flushed: after a power failure the namespaces it speaks of are gone.
  Task<absl::Status> write = env_.Blocking<absl::Status>([dir, path, text]() -> absl::Status {
    RETURN_IF_ERROR(MakeDirs(dir, 0700));
    return PutVersion(path, text);
  });
  absl::Status written = co_await std::move(write);
  co_return Annotate(written, "keep the network record");
}

Task<absl::StatusOr<CniRecord>> ExecCni::ReadRecord(std::string path) {
  Task<absl::StatusOr<CniRecord>> read =
      env_.Blocking<absl::StatusOr<CniRecord>>([path]() -> absl::StatusOr<CniRecord> {
        ASSIGN_OR_RETURN(std::string text, ReadVersion(path, kMaxCniRecordFileBytes));
        return DecodeCniRecord(text);
      });
  absl::StatusOr<CniRecord> record = co_await std::move(read);
  co_return record;
}

Task<absl::Status> ExecCni::DropRecord(std::string path) {
  Task<absl::Status> drop = env_.Blocking<absl::Status>([path]() -> absl::Status {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("remove ", path));
    return absl::OkStatus();
  });
  absl::Status dropped = co_await std::move(drop);
  co_return dropped;
}

std::vector<std::string> ExecCni::PluginEnv(const Call& call) const {
  std::vector<std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, "CNI_")) out.emplace_back(*entry);
  }
  for (std::string_view setting : kGoSettings) {
    std::string name(setting.substr(0, setting.find('=')));
    if (::getenv(name.c_str()) == nullptr) out.emplace_back(setting);
  }
  const CniAttachment& a = call.attachment;
  out.push_back(StrCat("CNI_COMMAND=", call.command));
  out.push_back(StrCat("CNI_PATH=", absl::StrJoin(options_.bin_dirs, ":")));
  if (a.container_id.empty()) return out;  // GC
  out.push_back(StrCat("CNI_CONTAINERID=", a.container_id));
  out.push_back(StrCat("CNI_NETNS=", a.netns_path));
  out.push_back(StrCat("CNI_IFNAME=", a.interface));
  out.push_back(StrCat("CNI_ARGS=", CniArgs(a)));
  return out;
}

Task<absl::StatusOr<std::string>> ExecCni::Run(Call call) {
  if (call.timeout <= absl::ZeroDuration()) {
    co_return absl::DeadlineExceededError(StrCat("plugin ", call.type, ": no time left to start it"));
  }
  CO_ASSIGN_OR_RETURN_SYNC(std::string path, FindPlugin(call.type));
  Task<void> acquire = plugins_.Acquire();
  co_await std::move(acquire);
  Permit permit(&plugins_);
  SubprocessOptions run;
  run.argv = {path};
  run.env = PluginEnv(call);
  run.stdin_data = call.input;
  run.max_output_bytes = kMaxCniResultBytes + 1;
  run.timeout = call.timeout;
  Task<absl::StatusOr<SubprocessResult>> task = env_.subprocess().Run(std::move(run));
  absl::StatusOr<SubprocessResult> result = co_await std::move(task);
  if (!result.ok()) co_return Annotate(result.status(), StrCat("plugin ", call.type));
  if (!result->ok()) co_return PluginFailure(call.type, *result);
  if (result->stdout_data.size() > kMaxCniResultBytes) {
    co_return absl::ResourceExhaustedError(
        StrCat("plugin ", call.type, ": printed more than ", kMaxCniResultBytes, " bytes"));
  }
  co_return std::move(result->stdout_data);
}

Task<absl::Status> ExecCni::RunAdd(CniAttachment attachment, std::shared_ptr<const CniNetwork> network,
                                   std::shared_ptr<std::string> result) {
  absl::Duration end = env_.clock().Monotonic() + kCniTimeout;
  CniCapabilityArgs args = CapabilityArgsOf(attachment);
  for (size_t i = 0; i < network->plugins.size(); ++i) {
    Call call{.command = "ADD",
              .attachment = attachment,
              .type = network->plugins[i].type,
              .input = CniPluginInput(*network, i, args, *result),
              .timeout = end - env_.clock().Monotonic()};
    Task<absl::StatusOr<std::string>> run = Run(std::move(call));
    absl::StatusOr<std::string> out = co_await std::move(run);
    if (!out.ok()) co_return out.status();
    absl::StatusOr<CniResult> parsed = ParseCniResult(*out);
    if (!parsed.ok()) co_return Annotate(parsed.status(), StrCat("plugin ", network->plugins[i].type));
    *result = std::move(parsed->json);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ExecCni::RunDel(CniAttachment attachment, std::shared_ptr<const CniNetwork> network,
                                   std::string result) {
  if (!IsNamespace(attachment.netns_path)) attachment.netns_path.clear();
  if (!CniVersionAtLeast(network->cni_version, "0.4.0")) result.clear();
  absl::Duration end = env_.clock().Monotonic() + kDelTimeout;
  CniCapabilityArgs args = CapabilityArgsOf(attachment);
  absl::Status first;
  for (size_t i = network->plugins.size(); i-- > 0;) {
    Call call{.command = "DEL",
              .attachment = attachment,
              .type = network->plugins[i].type,
              .input = CniPluginInput(*network, i, args, result),
              .timeout = end - env_.clock().Monotonic()};
    Task<absl::StatusOr<std::string>> run = Run(std::move(call));
    absl::StatusOr<std::string> out = co_await std::move(run);
    if (!out.ok() && !absl::IsNotFound(out.status())) first.Update(out.status());
  }
  co_return first;
}

Task<absl::StatusOr<CniResult>> ExecCni::Add(CniAttachment attachment) {
  CO_RETURN_IF_ERROR_SYNC(ValidateCniAttachment(attachment));
  std::string what = StrCat("attach pod ", PodName(attachment), " to the network");
  absl::StatusOr<std::shared_ptr<const CniNetwork>> current = Current();
  if (!current.ok()) co_return Annotate(current.status(), what);
  std::shared_ptr<const CniNetwork> network = *current;
  if (absl::Status ready = CheckPlugins(*network); !ready.ok()) co_return Annotate(ready, what);
  StrAppend(&what, " ", network->name);

  std::string key = CniRecordName(attachment.container_id, attachment.interface);
  Task<KeyLock> take = LockKey(key);
  KeyLock lock = co_await std::move(take);
  while (gc_command_runs_) {
    Task<void> wait = adds_changed_.Wait();
    co_await std::move(wait);
  }
  AddGuard counted(this, key);
  if (gc_runs_) added_during_gc_.insert(key);

  std::string path = RecordPath(attachment);
  if (::access(path.c_str(), F_OK) == 0) {
    Task<absl::Status> clean = DelLocked(attachment);
    absl::Status cleaned = co_await std::move(clean);
    if (!cleaned.ok()) co_return Annotate(cleaned, StrCat(what, ": remove what is left of the last attempt"));
  }
  CniRecord record{.attachment = attachment, .network = *network};
  Task<absl::Status> begin = WriteRecord(record);
  absl::Status begun = co_await std::move(begin);
  if (!begun.ok()) co_return Annotate(begun, what);

  auto result = std::make_shared<std::string>();
  Task<absl::Status> add = RunAdd(attachment, network, result);
  absl::Status status = co_await std::move(add);
  absl::StatusOr<CniResult> out = absl::UnknownError("");
  if (status.ok()) {
    out = ParseCniResult(*result);
    if (out.ok() && out->ips.empty()) out = absl::InternalError("its plugins gave the pod no address");
    status = out.status();
  }
  if (status.ok()) {
    record.added = true;
    record.result_json = *result;
    Task<absl::Status> keep = WriteRecord(record);
    status = co_await std::move(keep);
  }
  if (status.ok()) {
    out->network_name = network->name;
    co_return out;
  }
  Task<absl::Status> undo = RunDel(attachment, network, *result);
  absl::Status undone = co_await std::move(undo);
  if (undone.ok()) {
    Task<absl::Status> drop = DropRecord(path);
    undone = co_await std::move(drop);
  }
  if (!undone.ok()) {
    LogWarning("network: undoing a failed attachment failed, garbage collection will try again",
               {{"pod", PodName(attachment)}, {"sandbox", attachment.container_id}, {"error", undone}});
  }
  co_return Annotate(status, what);
}

Task<void> ExecCni::OutlivePlugins(std::string container_id) {
  absl::Duration end = env_.clock().Monotonic() + kOrphanPatience;
  bool killed = false;
  while (true) {
    std::string root = options_.proc_root;
    Task<std::vector<int>> find =
        env_.Blocking<std::vector<int>>([root, container_id] { return FindPlugins(root, container_id); });
    std::vector<int> pids = co_await std::move(find);
    if (pids.empty()) co_return;
    if (env_.clock().Monotonic() > end) {
      LogWarning("network: plugins of an earlier life do not end, killing them",
                 {{"sandbox", container_id}, {"plugins", pids.size()}, {"again", killed}});
      if (killed) co_return;
      killed = true;
      for (int pid : pids) {
        absl::StatusOr<std::unique_ptr<ChildProcess>> plugin = env_.subprocess().Adopt(pid);
        if (plugin.ok()) (*plugin)->Signal(SIGKILL).IgnoreError();
      }
      end = env_.clock().Monotonic() + kOrphanLook * 10;
    }
    Task<void> sleep = env_.clock().Sleep(kOrphanLook);
    co_await std::move(sleep);
  }
}

Task<absl::Status> ExecCni::DelLocked(CniAttachment attachment) {
  std::string path = RecordPath(attachment);
  Task<absl::StatusOr<CniRecord>> read = ReadRecord(path);
  absl::StatusOr<CniRecord> record = co_await std::move(read);
  std::shared_ptr<const CniNetwork> network;
  std::string result;
  if (record.ok()) {
    std::string netns = attachment.netns_path;
    attachment = record->attachment;
    if (!netns.empty()) attachment.netns_path = netns;
    network = std::make_shared<const CniNetwork>(std::move(record->network));
    result = record->result_json;
    if (!record->added) {
      Task<void> outlive = OutlivePlugins(attachment.container_id);
      co_await std::move(outlive);
    }
  } else {
    bool torn = !absl::IsNotFound(record.status());
    if (torn) {
      LogWarning("network: record of an attachment is unreadable, removing it with today's configuration",
                 {{"sandbox", attachment.container_id}, {"error", record.status()}});
    }
    if (!torn && !IsNamespace(attachment.netns_path)) co_return absl::OkStatus();
    absl::StatusOr<std::shared_ptr<const CniNetwork>> current = Current();
    if (!current.ok() && torn) co_return current.status();
    if (!current.ok()) co_return absl::OkStatus();
    network = *current;
  }
  Task<absl::Status> del = RunDel(attachment, network, result);
  absl::Status status = co_await std::move(del);
  if (status.ok()) {
    Task<absl::Status> drop = DropRecord(path);
    status = co_await std::move(drop);
  }
  co_return Annotate(status, StrCat("detach pod ", PodName(attachment), " from the network ", network->name));
}

Task<absl::Status> ExecCni::Del(CniAttachment attachment) {
  CO_RETURN_IF_ERROR_SYNC(ValidateCniAttachment(attachment));
  Task<KeyLock> take = LockKey(CniRecordName(attachment.container_id, attachment.interface));
  KeyLock lock = co_await std::move(take);
  Task<absl::Status> del = DelLocked(std::move(attachment));
  absl::Status status = co_await std::move(del);
  co_return status;
}

Task<absl::Status> ExecCni::Check(CniAttachment attachment) {
  CO_RETURN_IF_ERROR_SYNC(ValidateCniAttachment(attachment));
  std::string what = StrCat("check the network of pod ", PodName(attachment));
  Task<KeyLock> take = LockKey(CniRecordName(attachment.container_id, attachment.interface));
  KeyLock lock = co_await std::move(take);
  Task<absl::StatusOr<CniRecord>> read = ReadRecord(RecordPath(attachment));
  absl::StatusOr<CniRecord> record = co_await std::move(read);
  if (!record.ok()) co_return Annotate(record.status(), what);
  if (!record->added) co_return absl::NotFoundError(StrCat(what, ": it was never attached"));
  const CniNetwork& network = record->network;
  if (network.disable_check) co_return absl::OkStatus();
  if (!CniVersionAtLeast(network.cni_version, "0.4.0")) {
    co_return absl::UnimplementedError(StrCat(what, ": network ", network.name, " is of version ",
                                              network.cni_version, ", CHECK came with 0.4.0"));
  }
  absl::Duration end = env_.clock().Monotonic() + kCniTimeout;
  CniCapabilityArgs args = CapabilityArgsOf(record->attachment);
  for (size_t i = 0; i < network.plugins.size(); ++i) {
    Call call{.command = "CHECK",
              .attachment = record->attachment,
              .type = network.plugins[i].type,
              .input = CniPluginInput(network, i, args, record->result_json),
              .timeout = end - env_.clock().Monotonic()};
    Task<absl::StatusOr<std::string>> run = Run(std::move(call));
    absl::StatusOr<std::string> out = co_await std::move(run);
    if (!out.ok()) co_return Annotate(out.status(), what);
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::vector<CniRecord>>> ExecCni::ListRecords() {
  std::string dir = options_.cache_dir;
  Task<absl::StatusOr<std::vector<CniRecord>>> list = env_.Blocking<absl::StatusOr<std::vector<CniRecord>>>(
      [dir]() -> absl::StatusOr<std::vector<CniRecord>> {
        std::vector<CniRecord> out;
        absl::StatusOr<std::vector<std::string>> names = ListFolder(dir, kMaxRecords);
        if (absl::IsNotFound(names.status())) return out;
        if (!names.ok()) return names.status();
        for (const std::string& name : *names) {
          if (!absl::EndsWith(name, kRecordSuffix)) continue;
          absl::StatusOr<std::string> text = ReadVersion(StrCat(dir, "/", name), kMaxCniRecordFileBytes);
          absl::StatusOr<CniRecord> record =
              text.ok() ? DecodeCniRecord(*text) : absl::StatusOr<CniRecord>(text.status());
          if (absl::IsNotFound(record.status())) continue;  // removed meanwhile
          if (!record.ok()) {
            // The name says enough to remove it.
            size_t at = name.find('@');
            record = CniRecord{};
            record->attachment.container_id = name.substr(0, at);
            if (at == std::string::npos) continue;
            record->attachment.interface =
                name.substr(at + 1, name.size() - at - 1 - std::string_view(kRecordSuffix).size());
          }
          out.push_back(*std::move(record));
        }
        return out;
      });
  absl::StatusOr<std::vector<CniRecord>> records = co_await std::move(list);
  co_return records;
}

Task<absl::Status> ExecCni::GarbageCollect(std::vector<std::string> valid_container_ids) {
  std::set<std::string> valid(valid_container_ids.begin(), valid_container_ids.end());
  // Added by the time the caller made its list or later: not known to it.
  std::set<std::string> spared(adding_.begin(), adding_.end());
  Task<AsyncMutex::Guard> take = one_gc_.Lock();
  AsyncMutex::Guard one = co_await std::move(take);
  struct Running {
    explicit Running(ExecCni* c) : cni(c) {
      cni->gc_runs_ = true;
      cni->added_during_gc_.insert(cni->adding_.begin(), cni->adding_.end());
    }
    ~Running() {
      cni->gc_runs_ = false;
      cni->added_during_gc_.clear();
    }
    ExecCni* cni;
  } running(this);
  Task<absl::StatusOr<std::vector<CniRecord>>> list = ListRecords();
  absl::StatusOr<std::vector<CniRecord>> records = co_await std::move(list);
  if (!records.ok()) co_return Annotate(records.status(), "collect network attachments");
  absl::Status first;
  for (const CniRecord& record : *records) {
    const CniAttachment& a = record.attachment;
    std::string key = CniRecordName(a.container_id, a.interface);
    if (valid.contains(a.container_id) || spared.contains(key) || added_during_gc_.contains(key)) continue;
    LogInfo("network: removing an attachment without a sandbox", {{"sandbox", a.container_id}});
    Task<absl::Status> del = Del(a);
    absl::Status status = co_await std::move(del);
    first.Update(status);
  }
  Task<absl::Status> command = RunGcCommand();
  absl::Status ran = co_await std::move(command);
  first.Update(ran);
  co_return first;
}

Task<absl::Status> ExecCni::RunGcCommand() {
  absl::StatusOr<std::shared_ptr<const CniNetwork>> current = Current();
  if (!current.ok() || (*current)->disable_gc || !CniVersionAtLeast((*current)->cni_version, "1.1.0")) {
    co_return absl::OkStatus();
  }
  std::shared_ptr<const CniNetwork> network = *current;
  // No ADD beside it: the plugin would take its fresh attachment for garbage.
  GcGuard exclusive(this);
  while (!adding_.empty()) {
    Task<void> wait = adds_changed_.Wait();
    co_await std::move(wait);
  }
  Task<absl::StatusOr<std::vector<CniRecord>>> list = ListRecords();
  absl::StatusOr<std::vector<CniRecord>> records = co_await std::move(list);
  if (!records.ok()) co_return records.status();
  std::vector<CniValidAttachment> keep;
  for (const CniRecord& r : *records) keep.push_back({r.attachment.container_id, r.attachment.interface});
  absl::Status first;
  absl::Duration end = env_.clock().Monotonic() + kGcTimeout;
  for (size_t i = 0; i < network->plugins.size(); ++i) {
    Call call{.command = "GC",
              .type = network->plugins[i].type,
              .input = CniGcInput(*network, i, keep),
              .timeout = end - env_.clock().Monotonic()};
    Task<absl::StatusOr<std::string>> run = Run(std::move(call));
    absl::StatusOr<std::string> out = co_await std::move(run);
    if (!absl::IsUnimplemented(out.status())) first.Update(out.status());
  }
  co_return Annotate(first, StrCat("collect garbage of network ", network->name));
}

Task<absl::Status> ExecCni::RunStatusCommand(std::shared_ptr<const CniNetwork> network) {
  const absl::Duration end = env_.clock().Monotonic() + kCniStatusTimeout;
  for (size_t i = 0; i < network->plugins.size(); ++i) {
    Call call{.command = "STATUS",
              .type = network->plugins[i].type,
              .input = CniStatusInput(*network, i),
              .timeout = end - env_.clock().Monotonic()};
    Task<absl::StatusOr<std::string>> run = Run(std::move(call));
    absl::StatusOr<std::string> out = co_await std::move(run);
    if (out.ok() || absl::IsUnimplemented(out.status())) continue;
    co_return absl::FailedPreconditionError(
        StrCat("network ", network->name, ": ", Sv(out.status().message())));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ExecCni::AskStatus() {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<const CniNetwork> network, Current());
  CO_RETURN_IF_ERROR_SYNC(CheckPlugins(*network));
  if (!CniVersionAtLeast(network->cni_version, "1.1.0")) co_return absl::OkStatus();
  if (status_network_ == network) {
    const absl::Duration age = env_.clock().Monotonic() - status_at_;
    // What is not ready is asked again soon, also by a busy server: it waits for that.
    const bool busy = !adding_.empty() && status_.ok();
    if (status_runs_ || age < (busy ? kCniStatusBusyInterval : kCniStatusInterval)) co_return status_;
  }
  Task<AsyncMutex::Guard> take = one_status_.Lock();
  AsyncMutex::Guard one = co_await std::move(take);
  // Whoever had it may have asked about the same.
  if (status_network_ == network && env_.clock().Monotonic() - status_at_ < kCniStatusInterval)
    co_return status_;
  struct Running {
    explicit Running(bool* f) : flag(f) { *flag = true; }
    ~Running() { *flag = false; }
    bool* flag;
  } running(&status_runs_);
  Task<absl::Status> run = RunStatusCommand(network);
  absl::Status status = co_await std::move(run);
  status_network_ = std::move(network);
  status_at_ = env_.clock().Monotonic();
  status_ = status;
  co_return status;
}

absl::Status ExecCni::SetPodCidr(const std::string& cidr) {
  if (options_.conf_template.empty() || cidr.empty()) return absl::OkStatus();
  if (absl::Status now = Ready(); now.ok() && config_file_ != kGeneratedConfig) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string text, ReadFile(options_.conf_template, kMaxCniConfigBytes));
  ASSIGN_OR_RETURN(std::string filled, FillCniTemplate(text, cidr));
  std::string path = StrCat(options_.conf_dir, "/", kGeneratedConfig);
  absl::StatusOr<std::string> before = ReadFile(path, kMaxCniConfigBytes);
  if (before.ok() && *before == filled) return absl::OkStatus();
  RETURN_IF_ERROR(MakeDirs(options_.conf_dir));
  return Annotate(WriteFileAtomic(path, filled), "write the network configuration");
}

// Temporary files of records ("ID@eth0.json.XXXXXX") whose writer was killed.
void RemoveHalfWritten(const std::string& dir) {
  absl::StatusOr<std::vector<std::string>> names = ListFolder(dir, kMaxRecords);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (absl::StrContains(name, StrCat(kRecordSuffix, "."))) ::unlink(StrCat(dir, "/", name).c_str());
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Cni>> NewCni(Env& env, CniOptions options) {
  if (options.conf_dir.empty() || options.cache_dir.empty() || options.bin_dirs.empty()) {
    return absl::InvalidArgumentError("network plugins: conf_dir, bin_dirs and cache_dir must be given");
  }
  RemoveHalfWritten(options.cache_dir);
  return std::make_unique<ExecCni>(env, std::move(options));
}

}  // namespace keelson::cri
