// kill -9 of `keelson cri` in the middle of its calls, again and again.
//
//   cri/testing/with_keelson_cri KEELSON [--handler H] --no-server cri_kill_sweep [RUNS [SEED [LIMIT_S]]]
//
// A run sends one to three calls on different pods and containers, drawn from a seed, and kills the server
// within the time such calls take (now and then also while it starts again). Then the server is started, and
// what it answers is compared with what is known:
//  - no container that ran is lost, restarted or started twice: same pid, same start time, one line "begin"
//  in its log;
//  - one that ended meanwhile has its own exit code and reason;
//  - what the kernel and the disk hold is what the answers say and no more (kernel_state.h);
//  - an image whose pull or import was answered is there, one whose removal was is not; an export that was
//  answered is whole and has nothing half made beside it;
//  - the calls that were cut off can be repeated and succeed; names are free again.
// The first run that fails is printed with its seed and its calls.
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/testing/kernel_state.h"
#include "cri/testing/live_server.h"
#include "images/testing/test_images.h"

namespace keelson::cri {
namespace {

constexpr int kDefaultRuns = 20;
constexpr int kMaxPods = 4, kMaxContainersPerPod = 3;
constexpr int kFirstHostPort = 21000;
constexpr absl::Duration kSettleLimit = absl::Seconds(10), kSettleInterval = absl::Milliseconds(50);
constexpr int kTermExitCode = 7, kKillExitCode = 137;

#define REQUIRE(condition, ...)                                                               \
  do {                                                                                        \
    if (!(condition)) co_return absl::InternalError(StrCat(#condition, ": ", ##__VA_ARGS__)); \
  } while (false)

enum class Kind {
  kRun,
  kStopPod,
  kRemovePod,
  kCreate,
  kStart,
  kStop,
  kRemove,
  kExec,
  kUpdate,
  kPull,
  kImport,
  kExport,
  kRemoveImage
};
constexpr const char* kKindNames[] = {
    "RunPodSandbox", "StopPodSandbox",  "RemovePodSandbox", "CreateContainer",          "StartContainer",
    "StopContainer", "RemoveContainer", "ExecSync",         "UpdateContainerResources", "PullImage",
    "Import",        "Export",          "RemoveImage"};
constexpr int kKinds = 13;
// As long as an import of it takes longer than a call does.
constexpr size_t kArchiveBytes = 4 << 20, kMaxExportBytes = 64 << 20;
constexpr char kImportedImage[] = "keelson.local/sweep/imported:1";
// Whatever can be done to what is there, in this mix.
constexpr Kind kDrawn[] = {Kind::kRun,    Kind::kRun,    Kind::kStopPod,    Kind::kRemovePod, Kind::kCreate,
                           Kind::kCreate, Kind::kCreate, Kind::kStart,      Kind::kStart,     Kind::kStart,
                           Kind::kStart,  Kind::kStop,   Kind::kStop,       Kind::kRemove,    Kind::kExec,
                           Kind::kExec,   Kind::kExec,   Kind::kUpdate,     Kind::kPull,      Kind::kImport,
                           Kind::kImport, Kind::kExport, Kind::kRemoveImage};

// What is known of a pod. `unsure`: calls on it were cut off.
struct Pod {
  int number = 0;
  std::string id;  // "" : none, or its RunPodSandbox was cut off
  v1::PodSandboxConfig config;
  bool ready = false;
  int host_port = 0;
};

struct Member {
  std::string name, id;
  Pod* pod = nullptr;
  v1::ContainerConfig config;
  v1::ContainerState state = v1::CONTAINER_CREATED;
  bool ends = false;  // by itself, with exit_code
  int exit_code = 0;
  bool may_term = false, may_kill = false;  // it was asked to end, or may have been
  int pid = 0;                              // once seen running
  std::string start_time;
};

struct Op {
  Kind kind;
  Pod* pod = nullptr;
  Member* member = nullptr;
  std::string image;  // that it is about
  bool done = false;
  absl::Status status = absl::UnknownError("not answered");
  std::string id;  // from the answer
  absl::Duration took;
};

bool IsOnImages(Kind kind) {
  return kind == Kind::kPull || kind == Kind::kImport || kind == Kind::kExport || kind == Kind::kRemoveImage;
}

// A docker archive with one layer that no other image has.
std::string MakeArchive() {
  std::string data(kArchiveBytes, '\0');
  std::mt19937_64 random(1);
  for (char& c : data) c = static_cast<char>(random());
  images::TestImage image = images::MakeImage(
      {images::MakeTar({{.name = "etc/", .type = '5', .mode = 0755}, {.name = "etc/data", .data = data}})},
      "none");
  std::string index =
      StrCat(R"([{"Config":"config.json","RepoTags":[")", kImportedImage, R"("],"Layers":["layer.tar"]}])");
  return images::MakeTar({{.name = "manifest.json", .data = index},
                          {.name = "config.json", .data = image.config},
                          {.name = "layer.tar", .data = image.layers[0]}});
}

std::string StartTime(int pid) {
  absl::StatusOr<std::string> stat = ReadFile(StrCat("/proc/", pid, "/stat"));
  if (!stat.ok()) return "";
  std::vector<std::string> fields = absl::StrSplit(stat->substr(stat->rfind(')') + 2), ' ');
  return fields.size() > 19 && fields[0] != "Z" ? fields[19] : "";
}

class Sweep {
 public:
  Sweep(RealEnv& env, LiveServer& live, uint64_t seed)
      : env_(env), live_(live), random_(seed), scope_(env.executor()) {
    char pattern[] = "/tmp/keelson-sweep-XXXXXX";
    if (::mkdtemp(pattern) != nullptr) logs_ = pattern;
  }
  ~Sweep() { (void)RemoveTree(logs_); }

  Task<absl::Status> Run(int runs, absl::Duration limit) {
    absl::Duration begin = env_.clock().Monotonic();
    CO_RETURN_IF_ERROR_SYNC(live_.Spawn());
    CO_RETURN_IF_ERROR(live_.WaitUntilUp());
    CO_RETURN_IF_ERROR(Pull(live_.busybox()));
    CO_RETURN_IF_ERROR_SYNC(WriteFileAtomic(logs_ + "/import.tar", MakeArchive(), 0644, false));
    for (run_ = 0; run_ < runs && env_.clock().Monotonic() - begin < limit; ++run_) {
      Task<absl::Status> once = Once();
      absl::Status status = co_await std::move(once);
      if (!status.ok()) co_return Annotate(status, StrCat("run ", run_, ", calls ", OpsText()));
    }
    CO_RETURN_IF_ERROR(CleanUp());
    Report();
    co_return absl::OkStatus();
  }

 private:
  uint64_t Draw(uint64_t bound) { return random_() % bound; }

  // ---- one run ----

  Task<absl::Status> Once() {
    ops_.clear();
    std::erase_if(members_, [](const auto& member) { return member->id.empty(); });
    std::erase_if(pods_, [](const auto& pod) { return pod->id.empty(); });
    int wanted = 1 + static_cast<int>(Draw(3));
    for (int i = 0; i < wanted; ++i) AddOp();
    absl::Duration typical = typical_[static_cast<int>(ops_[Draw(ops_.size())]->kind)];
    // One of eight runs lets the calls end and only then kills: nothing must be lost between calls either.
    bool idle = Draw(8) == 0;
    absl::Duration delay = typical * 1.2 * (static_cast<double>(Draw(1000)) / 1000);
    for (const auto& op : ops_) scope_.Spawn("op", Do(op));
    if (idle) {
      CO_RETURN_IF_ERROR(AwaitOps());
    } else {
      Task<void> nap = env_.clock().Sleep(delay);
      co_await std::move(nap);
    }
    for (const auto& op : ops_) ++(op->done ? finished_ : cut_off_)[static_cast<int>(op->kind)];
    CO_RETURN_IF_ERROR(live_.Kill());
    CO_RETURN_IF_ERROR(AwaitOps());
    while (Draw(6) == 0) {
      // Recovery is a moment like any other.
      CO_RETURN_IF_ERROR_SYNC(live_.Spawn());
      Task<void> nap = env_.clock().Sleep(absl::Milliseconds(Draw(600)));
      co_await std::move(nap);
      CO_RETURN_IF_ERROR(live_.Kill());
      ++killed_in_recovery_;
    }
    CO_RETURN_IF_ERROR_SYNC(live_.Spawn());
    CO_RETURN_IF_ERROR(live_.WaitUntilUp());
    CO_RETURN_IF_ERROR(Compare("after the restart"));
    CO_RETURN_IF_ERROR(Repeat());
    CO_RETURN_IF_ERROR(Compare("after repeating the calls"));
    co_return absl::OkStatus();
  }

  std::string OpsText() const {
    std::vector<std::string> words;
    for (const auto& op : ops_) {
      words.push_back(StrCat(kKindNames[static_cast<int>(op->kind)], " ",
                             !op->image.empty()      ? op->image
                             : op->member != nullptr ? op->member->name
                             : op->pod != nullptr    ? StrCat("pod", op->pod->number)
                                                     : "",
                             " (", op->status.ok() ? "ok" : op->status.ToString(), ")"));
    }
    return absl::StrJoin(words, "; ");
  }

  bool Busy(const Pod* pod) const {
    return std::any_of(ops_.begin(), ops_.end(), [pod](const auto& op) { return op->pod == pod; });
  }
  bool Busy(const Member* member) const {
    return std::any_of(ops_.begin(), ops_.end(), [member](const auto& op) {
      return op->member == member || (op->pod == member->pod && op->member == nullptr);
    });
  }

  // Draws calls until one fits the state things are in.
  void AddOp() {
    for (int attempt = 0; attempt < 50; ++attempt) {
      auto op = std::make_shared<Op>();
      op->kind = kDrawn[Draw(std::size(kDrawn))];
      if (IsOnImages(op->kind)) {
        bool taken =
            std::any_of(ops_.begin(), ops_.end(), [](const auto& other) { return IsOnImages(other->kind); });
        if (taken) continue;
        op->image = op->kind == Kind::kExport ? live_.busybox()
                    : op->kind == Kind::kImport || (op->kind == Kind::kRemoveImage && Draw(3) != 0)
                        ? kImportedImage
                        : live_.user_image();
      } else if (op->kind == Kind::kRun) {
        if (pods_.size() >= kMaxPods) continue;
        op->pod = NewPod();
      } else if (op->kind == Kind::kStopPod || op->kind == Kind::kRemovePod || op->kind == Kind::kCreate) {
        if (pods_.empty()) continue;
        Pod* pod = pods_[Draw(pods_.size())].get();
        if (Busy(pod)) continue;
        if (op->kind == Kind::kCreate && (!pod->ready || MembersOf(pod).size() >= kMaxContainersPerPod))
          continue;
        // Pods live a while.
        if (op->kind != Kind::kCreate && Draw(3) != 0) continue;
        op->pod = pod;
        if (op->kind == Kind::kCreate) op->member = NewMember(pod);
      } else {
        if (members_.empty()) continue;
        Member* member = members_[Draw(members_.size())].get();
        if (Busy(member)) continue;
        if (op->kind == Kind::kStart && (member->state != v1::CONTAINER_CREATED || !member->pod->ready))
          continue;
        if (op->kind == Kind::kExec && (member->state != v1::CONTAINER_RUNNING || member->ends)) continue;
        if (op->kind == Kind::kUpdate && (member->state == v1::CONTAINER_EXITED || member->ends)) continue;
        if (op->kind == Kind::kRemove && Draw(2) == 0) continue;
        op->member = member;
        op->pod = member->pod;
      }
      ops_.push_back(std::move(op));
      return;
    }
  }

  Pod* NewPod() {
    auto pod = std::make_unique<Pod>();
    pod->number = next_pod_++;
    auto* metadata = pod->config.mutable_metadata();
    metadata->set_name(StrCat("pod", pod->number));
    metadata->set_namespace_("sweep");
    metadata->set_uid(StrCat("uid", pod->number));
    pod->config.set_log_directory(StrCat(logs_, "/pod", pod->number));
    pod->config.set_hostname(StrCat("pod", pod->number));
    auto* options = pod->config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
    options->set_pid(Draw(3) == 0 ? v1::POD : v1::CONTAINER);
    if (Draw(5) == 0) {
      options->set_network(v1::NODE);
      pod->config.clear_hostname();
    } else if (Draw(3) == 0) {
      pod->host_port = kFirstHostPort + pod->number % 999;
      auto* mapping = pod->config.add_port_mappings();
      mapping->set_host_port(pod->host_port);
      mapping->set_container_port(80);
    }
    pods_.push_back(std::move(pod));
    return pods_.back().get();
  }

  Member* NewMember(Pod* pod) {
    auto member = std::make_unique<Member>();
    member->pod = pod;
    member->name = StrCat("c", next_member_++, "-of-pod", pod->number);
    member->ends = Draw(2) == 0;
    v1::ContainerConfig& config = member->config;
    config.mutable_metadata()->set_name(member->name);
    config.mutable_image()->set_image(live_.busybox());
    config.set_log_path(member->name + ".log");
    std::string script = StrCat("echo begin; trap 'exit ", kTermExitCode, "' TERM; ");
    if (member->ends) {
      member->exit_code = static_cast<int>(Draw(4));
      script += StrCat("sleep ", Draw(3), ".", Draw(10), "; exit ", member->exit_code);
    } else {
      script += "while true; do sleep 1000 & wait $!; done";
    }
    for (const char* word : {"sh", "-c", script.c_str()}) config.add_command(word);
    *config.mutable_linux()->mutable_security_context()->mutable_namespace_options() =
        pod->config.linux().security_context().namespace_options();
    config.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(64 << 20);
    if (Draw(5) == 0) {
      auto* mount = config.add_mounts();
      mount->set_container_path("/mnt");
      mount->mutable_image()->set_image(live_.busybox());
      mount->set_readonly(true);
    }
    members_.push_back(std::move(member));
    return members_.back().get();
  }

  std::vector<Member*> MembersOf(const Pod* pod) const {
    std::vector<Member*> out;
    for (const auto& member : members_) {
      if (member->pod == pod) out.push_back(member.get());
    }
    return out;
  }

  Task<absl::Status> AwaitOps() {
    while (true) {
      bool all = std::all_of(ops_.begin(), ops_.end(), [](const auto& op) { return op->done; });
      if (all) co_return absl::OkStatus();
      Task<void> nap = env_.clock().Sleep(absl::Milliseconds(2));
      co_await std::move(nap);
    }
  }

  // ---- calls ----

  Task<void> Do(std::shared_ptr<Op> op) {
    absl::Duration begin = env_.clock().Monotonic();
    NoteIntent(op.get());
    Task<absl::Status> call = Call(op);
    op->status = co_await std::move(call);
    op->took = env_.clock().Monotonic() - begin;
    if (op->status.ok()) {
      absl::Duration& typical = typical_[static_cast<int>(op->kind)];
      typical = typical == absl::ZeroDuration() ? op->took : typical * 0.8 + op->took * 0.2;
    }
    op->done = true;
  }

  // What may happen from the moment the call is sent.
  void NoteIntent(Op* op) {
    if (op->kind == Kind::kStop) op->member->may_term = true;
    if (op->kind == Kind::kStop || op->kind == Kind::kRemove) op->member->may_kill = true;
    if (op->kind == Kind::kStopPod || op->kind == Kind::kRemovePod) {
      for (Member* member : MembersOf(op->pod)) member->may_kill = true;
    }
  }

  Task<absl::Status> Call(std::shared_ptr<Op> op) {
    RuntimeService& runtime = live_.runtime();
    switch (op->kind) {
      case Kind::kRun: {
        v1::RunPodSandboxRequest request;
        *request.mutable_config() = op->pod->config;
        CO_ASSIGN_OR_RETURN(v1::RunPodSandboxResponse response, runtime.RunPodSandbox(request));
        op->id = response.pod_sandbox_id();
        co_return absl::OkStatus();
      }
      case Kind::kStopPod: {
        v1::StopPodSandboxRequest request;
        request.set_pod_sandbox_id(op->pod->id);
        Task<absl::StatusOr<v1::StopPodSandboxResponse>> call = runtime.StopPodSandbox(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kRemovePod: {
        v1::RemovePodSandboxRequest request;
        request.set_pod_sandbox_id(op->pod->id);
        Task<absl::StatusOr<v1::RemovePodSandboxResponse>> call = runtime.RemovePodSandbox(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kCreate: {
        v1::CreateContainerRequest request;
        request.set_pod_sandbox_id(op->pod->id);
        *request.mutable_config() = op->member->config;
        *request.mutable_sandbox_config() = op->pod->config;
        CO_ASSIGN_OR_RETURN(v1::CreateContainerResponse response, runtime.CreateContainer(request));
        op->id = response.container_id();
        co_return absl::OkStatus();
      }
      case Kind::kStart: {
        v1::StartContainerRequest request;
        request.set_container_id(op->member->id);
        Task<absl::StatusOr<v1::StartContainerResponse>> call = runtime.StartContainer(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kStop: {
        v1::StopContainerRequest request;
        request.set_container_id(op->member->id);
        request.set_timeout(static_cast<int64_t>(op->member->name.size() % 2) * 5);
        Task<absl::StatusOr<v1::StopContainerResponse>> call = runtime.StopContainer(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kRemove: {
        v1::RemoveContainerRequest request;
        request.set_container_id(op->member->id);
        Task<absl::StatusOr<v1::RemoveContainerResponse>> call = runtime.RemoveContainer(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kExec: {
        v1::ExecSyncRequest request;
        request.set_container_id(op->member->id);
        for (const char* word : {"sh", "-c", "echo hello; exit 3"}) request.add_cmd(word);
        request.set_timeout(30);
        CO_ASSIGN_OR_RETURN(v1::ExecSyncResponse response, runtime.ExecSync(request));
        REQUIRE(response.exit_code() == 3 && response.stdout() == "hello\n", response.exit_code(), " ",
                response.stdout(), response.stderr());
        co_return absl::OkStatus();
      }
      case Kind::kUpdate: {
        v1::UpdateContainerResourcesRequest request;
        request.set_container_id(op->member->id);
        request.mutable_linux()->set_cpu_shares(200 + static_cast<int64_t>(random_() % 100));
        Task<absl::StatusOr<v1::UpdateContainerResourcesResponse>> call =
            runtime.UpdateContainerResources(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kPull: {
        Task<absl::Status> pull = Pull(op->image);
        absl::Status status = co_await std::move(pull);
        co_return status;
      }
      case Kind::kImport: {
        files::ImportRequest request;
        request.set_path(logs_ + "/import.tar");
        CO_ASSIGN_OR_RETURN(files::ImportResponse response, live_.image_files().Import(request));
        REQUIRE(response.images_size() == 1 && response.images(0).repo_tags_size() == 1,
                response.ShortDebugString());
        co_return absl::OkStatus();
      }
      case Kind::kExport: {
        files::ExportRequest request;
        request.set_image(op->image);
        request.set_path(logs_ + "/export.tar");
        request.set_docker_archive(true);
        Task<absl::StatusOr<files::ExportResponse>> call = live_.image_files().Export(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
      case Kind::kRemoveImage: {
        v1::RemoveImageRequest request;
        request.mutable_image()->set_image(op->image);
        Task<absl::StatusOr<v1::RemoveImageResponse>> call = live_.images().RemoveImage(request);
        auto response = co_await std::move(call);
        co_return response.status();
      }
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> Pull(std::string image) {
    v1::PullImageRequest request;
    request.mutable_image()->set_image(image);
    Task<absl::StatusOr<v1::PullImageResponse>> call = live_.images().PullImage(request);
    auto response = co_await std::move(call);
    co_return response.status();
  }

  // ---- what became of it ----

  struct View {
    std::map<std::string, v1::PodSandboxStatus> pods;       // by ID
    std::map<std::string, v1::ContainerStatus> containers;  // by ID
    std::map<std::string, int> pids;
    std::map<std::string, std::string> pod_by_name, container_by_name;
  };

  Task<absl::StatusOr<View>> Ask() {
    View view;
    RuntimeService& runtime = live_.runtime();
    CO_ASSIGN_OR_RETURN(v1::ListPodSandboxResponse pods, runtime.ListPodSandbox(v1::ListPodSandboxRequest()));
    for (const v1::PodSandbox& pod : pods.items()) {
      v1::PodSandboxStatusRequest request;
      request.set_pod_sandbox_id(pod.id());
      CO_ASSIGN_OR_RETURN(v1::PodSandboxStatusResponse status, runtime.PodSandboxStatus(request));
      REQUIRE(view.pod_by_name.emplace(pod.metadata().name(), pod.id()).second, "two pods ",
              pod.metadata().name());
      view.pods[pod.id()] = status.status();
    }
    CO_ASSIGN_OR_RETURN(v1::ListContainersResponse containers,
                        runtime.ListContainers(v1::ListContainersRequest()));
    for (const v1::Container& container : containers.containers()) {
      v1::ContainerStatusRequest request;
      request.set_container_id(container.id());
      request.set_verbose(true);
      CO_ASSIGN_OR_RETURN(v1::ContainerStatusResponse status, runtime.ContainerStatus(request));
      REQUIRE(view.container_by_name.emplace(container.metadata().name(), container.id()).second,
              "two containers ", container.metadata().name());
      view.containers[container.id()] = status.status();
      const std::string& info = status.info().at("info");
      size_t at = info.find("\"pid\":");
      int pid = 0;
      if (at != std::string::npos) {
        std::string_view digits = std::string_view(info).substr(at + 6);
        (void)absl::SimpleAtoi(Av(digits.substr(0, digits.find(','))), &pid);
      }
      view.pids[container.id()] = pid;
    }
    co_return view;
  }

  // Takes over what is there; an error where it cannot have come about.
  Task<absl::Status> Compare(std::string when) {
    CO_ASSIGN_OR_RETURN(View view, Ask());
    for (const auto& pod : pods_) {
      auto there = view.pod_by_name.find(pod->config.metadata().name());
      const Op* op = OpOn(pod.get(), nullptr);
      bool unsure_run = op != nullptr && op->kind == Kind::kRun;
      bool unsure_end = op != nullptr && (op->kind == Kind::kStopPod || op->kind == Kind::kRemovePod);
      if (there == view.pod_by_name.end()) {
        bool may_be_gone = pod->id.empty() || (op != nullptr && op->kind == Kind::kRemovePod);
        REQUIRE(may_be_gone && !(unsure_run && op->status.ok()), when, ": pod", pod->number, " is lost");
        pod->id.clear();
        pod->ready = false;
        continue;
      }
      REQUIRE(pod->id.empty() || pod->id == there->second, when, ": pod", pod->number, " has another ID");
      REQUIRE(!(op != nullptr && op->kind == Kind::kRemovePod && op->status.ok()), when, ": pod", pod->number,
              " is removed and there");
      bool ready = view.pods[there->second].state() == v1::SANDBOX_READY;
      REQUIRE(ready || !pod->ready || unsure_end, when, ": pod", pod->number, " is not ready any more");
      REQUIRE(!ready || pod->ready || unsure_run, when, ": pod", pod->number, " became ready again");
      REQUIRE(!(ready && op != nullptr && op->kind == Kind::kStopPod && op->status.ok()), when, ": pod",
              pod->number, " is stopped and ready");
      pod->id = there->second;
      pod->ready = ready;
    }
    for (const auto& member : members_) CO_RETURN_IF_ERROR(CompareMember(member.get(), &view, when));
    for (const auto& [name, id] : view.pod_by_name) {
      bool known =
          std::any_of(pods_.begin(), pods_.end(), [&id = id](const auto& pod) { return pod->id == id; });
      REQUIRE(known, when, ": nobody made pod ", name);
    }
    for (const auto& [name, id] : view.container_by_name) {
      bool known =
          std::any_of(members_.begin(), members_.end(), [&id = id](const auto& m) { return m->id == id; });
      REQUIRE(known, when, ": nobody made container ", name);
    }
    for (const auto& op : ops_) {
      if (IsOnImages(op->kind) && op->status.ok()) CO_RETURN_IF_ERROR(CompareImage(op.get(), when));
    }
    CO_RETURN_IF_ERROR(CompareKernel(when));
    co_return absl::OkStatus();
  }

  Task<absl::Status> CompareImage(const Op* op, std::string when) {
    std::string what = StrCat(when, ": ", kKindNames[static_cast<int>(op->kind)], " of ", op->image);
    if (op->kind == Kind::kExport) {
      absl::StatusOr<std::string> archive = ReadFile(logs_ + "/export.tar", kMaxExportBytes);
      REQUIRE(archive.ok(), what, ": ", archive.status().ToString());
      if (exported_.empty()) exported_ = *archive;
      REQUIRE(*archive == exported_, what, ": not the bytes of the first one");
      CO_ASSIGN_OR_RETURN_SYNC(std::vector<std::string> names, FolderNames(logs_));
      for (const std::string& name : names)
        REQUIRE(!name.starts_with("export.tar."), what, ": something half made is left: ", name);
      co_return absl::OkStatus();
    }
    v1::ImageStatusRequest request;
    request.mutable_image()->set_image(op->image);
    CO_ASSIGN_OR_RETURN(v1::ImageStatusResponse status, live_.images().ImageStatus(request));
    REQUIRE(status.has_image() == (op->kind != Kind::kRemoveImage), what);
    co_return absl::OkStatus();
  }

  const Op* OpOn(const Pod* pod, const Member* member) const {
    for (const auto& op : ops_) {
      if (op->pod == pod && op->member == member) return op.get();
    }
    return nullptr;
  }

  Task<absl::Status> CompareMember(Member* member, const View* view, std::string when) {
    const Op* op = OpOn(member->pod, member);
    const Op* pod_op = OpOn(member->pod, nullptr);
    std::string what = StrCat(when, ": container ", member->name);
    auto there = view->container_by_name.find(member->config.metadata().name());
    if (there == view->container_by_name.end()) {
      bool may_be_gone = member->id.empty() || (op != nullptr && op->kind == Kind::kRemove) ||
                         (pod_op != nullptr && pod_op->kind == Kind::kRemovePod);
      REQUIRE(may_be_gone && !(op != nullptr && op->kind == Kind::kCreate && op->status.ok()), what,
              " is lost");
      member->id.clear();
      co_return absl::OkStatus();
    }
    REQUIRE(member->id.empty() || member->id == there->second, what, " has another ID");
    REQUIRE(!(op != nullptr && op->kind == Kind::kRemove && op->status.ok()), what, " is removed and there");
    member->id = there->second;
    const v1::ContainerStatus& status = view->containers.at(member->id);
    int pid = view->pids.at(member->id);
    bool may_start = op != nullptr && op->kind == Kind::kStart;
    switch (status.state()) {
      case v1::CONTAINER_CREATED:
        REQUIRE(member->state == v1::CONTAINER_CREATED, what, " is created again");
        REQUIRE(!(may_start && op->status.ok()), what, " was started and is only created");
        break;
      case v1::CONTAINER_RUNNING: {
        REQUIRE(
            member->state == v1::CONTAINER_RUNNING || (member->state == v1::CONTAINER_CREATED && may_start),
            what, " runs, which nobody asked for");
        std::string start_time = StartTime(pid);
        REQUIRE(!start_time.empty() || member->ends || member->may_kill, what,
                " is said to run, but process ", pid, " is gone");
        REQUIRE(member->pid == 0 ||
                    (member->pid == pid && (start_time.empty() || member->start_time == start_time)),
                what, " was restarted: it was process ", member->pid, " and is ", pid);
        REQUIRE(!(op != nullptr && op->kind == Kind::kStop && op->status.ok()), what, " is stopped and runs");
        member->pid = pid;
        if (!start_time.empty()) member->start_time = start_time;
        break;
      }
      case v1::CONTAINER_EXITED: {
        REQUIRE(member->state != v1::CONTAINER_CREATED || may_start, what,
                " has ended and was never started");
        bool own = member->ends && status.exit_code() == member->exit_code;
        bool term = member->may_term && status.exit_code() == kTermExitCode;
        // A shell that is killed before it has set its trap ends by the signal.
        bool early = member->may_term && status.exit_code() == 143;
        bool kill = member->may_kill && status.exit_code() == kKillExitCode;
        REQUIRE(own || term || early || kill, what, " ended with ", status.exit_code(), " ", status.reason(),
                " ", status.message());
        REQUIRE(status.reason() == (status.exit_code() == 0 ? "Completed" : "Error"), what, " has reason ",
                status.reason());
        REQUIRE(status.finished_at() >= status.started_at() && status.started_at() > 0, what,
                " has wrong times");
        // Without a start time it had ended when it was first looked at.
        REQUIRE(
            member->pid == 0 || member->start_time.empty() || StartTime(member->pid) != member->start_time,
            what, " is said to have ended, but process ", member->pid, " lives");
        break;
      }
      default:
        REQUIRE(false, what, " has state ", v1::ContainerState_Name(status.state()));
    }
    member->state = status.state();
    if (member->state != v1::CONTAINER_CREATED) {
      absl::StatusOr<std::string> log =
          ReadFile(StrCat(member->pod->config.log_directory(), "/", member->config.log_path()));
      REQUIRE(log.ok(), what, " has no log");
      int begun = 0;
      for (absl::string_view line : absl::StrSplit(*log, '\n')) begun += Sv(line).ends_with(" begin") ? 1 : 0;
      REQUIRE(begun <= 1, what, " was started ", begun, " times");
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> CompareKernel(std::string when) {
    std::vector<std::string> difference;
    absl::Duration limit = env_.clock().Monotonic() + kSettleLimit;
    while (true) {
      // Containers end meanwhile: both sides are looked at anew.
      CO_ASSIGN_OR_RETURN(View view, Ask());
      std::vector<v1::PodSandboxStatus> pods;
      std::vector<v1::ContainerStatus> containers;
      std::map<std::string, int> host_ports;
      for (const auto& [id, pod] : view.pods) pods.push_back(pod);
      for (const auto& [id, container] : view.containers) containers.push_back(container);
      for (const auto& pod : pods_) {
        if (pod->host_port != 0) host_ports[pod->id] = pod->host_port;
      }
      ExpectedState expected = ExpectedOf(pods, containers, host_ports);
      for (const auto& member : members_) {
        if (!member->id.empty() && member->config.mounts_size() > 0) {
          expected.must.insert(StrCat("rootfs ", member->id, "-image0"));
          expected.must.insert(StrCat("mount containers/", member->id, "/image0"));
        }
      }
      CO_ASSIGN_OR_RETURN(KernelState actual, LookAround(&env_, live_.paths(), live_.server_pid()));
      difference = Difference(expected, actual);
      if (difference.empty()) co_return absl::OkStatus();
      if (env_.clock().Monotonic() > limit) break;
      Task<void> nap = env_.clock().Sleep(kSettleInterval);
      co_await std::move(nap);
    }
    co_return absl::InternalError(StrCat(when, ":\n  ", absl::StrJoin(difference, "\n  ")));
  }

  // Each call that was cut off, once more, to its end.
  Task<absl::Status> Repeat() {
    for (const auto& op : ops_) {
      if (op->status.ok()) continue;
      REQUIRE(absl::IsUnavailable(op->status) || absl::IsCancelled(op->status) ||
                  absl::IsUnknown(op->status) || MayFail(*op),
              "a call failed by itself: ", op->status.ToString());
      bool made = op->kind == Kind::kRun      ? !op->pod->id.empty()
                  : op->kind == Kind::kCreate ? !op->member->id.empty()
                                              : false;
      if (op->kind == Kind::kStart && op->member->state != v1::CONTAINER_CREATED) made = true;
      if ((op->kind == Kind::kExec || op->kind == Kind::kUpdate) && op->member->state == v1::CONTAINER_EXITED)
        made = true;
      if (made) {
        op->status = absl::OkStatus();
        if (op->kind == Kind::kRun) op->id = op->pod->id;
        continue;
      }
      op->done = false;
      absl::Status before = op->status;
      Task<void> again = Do(op);
      co_await std::move(again);
      if (op->status.ok()) continue;
      absl::Status failed = op->status;
      co_return Annotate(failed, StrCat("repeated ", kKindNames[static_cast<int>(op->kind)]));
    }
    co_return absl::OkStatus();
  }

  // An exec or update may meet a container that is just ending.
  bool MayFail(const Op& op) const {
    return (op.kind == Kind::kExec || op.kind == Kind::kUpdate) && (op.member->may_kill || op.member->ends);
  }

  Task<absl::Status> CleanUp() {
    ops_.clear();
    for (const auto& pod : pods_) {
      if (pod->id.empty()) continue;
      auto op = std::make_shared<Op>();
      op->kind = Kind::kRemovePod;
      op->pod = pod.get();
      ops_.push_back(op);
      Task<void> remove = Do(op);
      co_await std::move(remove);
      if (!op->status.ok()) co_return op->status;
    }
    CO_RETURN_IF_ERROR(Compare("at the end"));
    Task<absl::Status> kill = live_.Kill();
    absl::Status killed = co_await std::move(kill);
    co_return killed;
  }

  void Report() {
    printf("%d kills, %d of them while it started\n", run_ + killed_in_recovery_, killed_in_recovery_);
    for (int i = 0; i < kKinds; ++i) {
      printf("  %-25s cut off %4d, ended before %4d, takes %3.0f ms\n", kKindNames[i], cut_off_[i],
             finished_[i], absl::ToDoubleMilliseconds(typical_[i]));
    }
  }

  RealEnv& env_;
  LiveServer& live_;
  std::mt19937_64 random_;
  Scope scope_;
  std::string logs_, exported_;
  int run_ = 0, next_pod_ = 1, next_member_ = 1, killed_in_recovery_ = 0;
  std::vector<std::unique_ptr<Pod>> pods_;
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<std::shared_ptr<Op>> ops_;
  absl::Duration typical_[kKinds] = {};
  int cut_off_[kKinds] = {}, finished_[kKinds] = {};
};

int Main(int argc, char** argv) {
  int runs = kDefaultRuns, limit_s = 3600;
  uint64_t seed = 1;
  if (argc > 1 && !absl::SimpleAtoi(argv[1], &runs)) return 2;
  if (argc > 2 && !absl::SimpleAtoi(argv[2], &seed)) return 2;
  if (argc > 3 && !absl::SimpleAtoi(argv[3], &limit_s)) return 2;
  RealEnv env{Paths()};
  std::unique_ptr<LiveServer> live = LiveServer::FromEnvironment(env);
  if (live == nullptr) {
    printf("# skip run it under cri/testing/with_keelson_cri\n");
    return 77;
  }
  Sweep sweep(env, *live, seed);
  absl::Status status = env.RunUntilDone(sweep.Run(runs, absl::Seconds(limit_s)));
  if (!status.ok())
    printf("FAILED with seed %lu, keelson cri %s: %s\n", static_cast<unsigned long>(seed),
           live->Ended() ? "has ended by itself or was killed" : "runs", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace keelson::cri

int main(int argc, char** argv) { return keelson::cri::Main(argc, argv); }
